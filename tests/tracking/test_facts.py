"""Params, tags, metrics and the table of generations, as MLflow gets them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from fake_points import CHOSEN_ONLY, HOSTILE, PROMPTS, TEXTS_ONLY, make_sweep, write_point, write_samples
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from harness.analysis.metric_catalog import METRICS
from harness.tracking.facts import (
    flatten,
    generations_json,
    metrics_of,
    mlflow_key,
    params_of,
    per_prompt_of,
    point_digest,
    tags_of,
)


@given(st.text(max_size=300))
def test_any_name_becomes_a_legal_key(name: str) -> None:
    key = mlflow_key(name)
    for check in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        check(key)


def test_legal_names_stay_as_they_are() -> None:
    for name in ("latency/ttft_p50_ms", "decoding.top_p", "a b:c-d_e"):
        assert mlflow_key(name) == name


def test_flatten_keeps_values_and_leaves_out_null() -> None:
    config = {"a": {"b": 1, "c": None, "d": {"e": "x"}}, "f": [1, "ü"], "g": True, "h": {}}
    assert dict(flatten(config)) == {"a.b": "1", "a.d.e": "x", "f": '[1, "ü"]', "g": "true"}


def test_params_are_the_requested_config_beside_the_effective_one(outputs: Path) -> None:
    params = params_of(write_point(outputs, "p", {"a": "x" * 9000}))
    assert params["decoding.top_p"] == "0.9"
    assert params["effective.temperature"] == "1.0"
    assert params["generation.stop_strings"] == '["[end]"]'
    assert "model.revision" not in params
    assert len(params["prompts.items"]) == 6000


def test_metrics_are_finite_numbers(outputs: Path) -> None:
    stored = write_point(outputs, "p", PROMPTS, tokens=3)
    known = json.loads(stored.path("metrics.json").read_text())
    known["metrics"] |= {
        "a/inf": math.inf,
        "a/minus": -math.inf,
        "a/nan": math.nan,
        "a/text": "x",
        "a/none": None,
        "latency/total_p95_ms": 3.0,
    }
    stored.path("metrics.json").write_text(json.dumps(known))
    metrics = metrics_of(stored)
    assert not any(key.startswith("a/") for key in metrics)
    assert metrics["latency/ttft_p50_ms"] == known["metrics"]["latency/ttft_p50_ms"]
    assert "latency/total_p95_ms" not in metrics


def test_charts_are_few_and_the_catalogue_says_which(outputs: Path) -> None:
    every = {metric.key: 1.0 for metric in METRICS} | {"own/politeness": 2.0}
    stored = write_point(outputs, "p", PROMPTS, tokens=3, metrics=every)
    known = json.loads(stored.path("metrics.json").read_text())
    known["per_prompt"] |= {metric.key: [1.0] * len(PROMPTS) for metric in METRICS if metric.per_sample}
    stored.path("metrics.json").write_text(json.dumps(known))
    metrics = metrics_of(stored)
    assert metrics["own/politeness"] == 2
    assert "text/distinct_3" not in metrics
    assert {"latency/ttft_p50_ms", "latency/itl_p50_ms", "latency/itl_p95_ms", "latency/total_p50_ms"} == {
        key for key in metrics if key.startswith("latency")
    }
    for section in ("probability", "text", "reference", "throughput", "memory"):
        assert 1 < sum(key.startswith(f"{section}/") for key in metrics) <= 6
    assert {key for key, _, _ in per_prompt_of(stored)} == {
        "prompt/mean_logprob", "prompt/distinct_2", "prompt/repeated_4", "prompt/output_tokens",
    }  # fmt: skip


def test_the_first_column_of_the_table_is_unique(outputs: Path) -> None:
    one = json.loads(generations_json(write_point(outputs, "p", dict.fromkeys(HOSTILE)))[0])
    assert one["columns"][:3] == ["prompt_id", "prompt", "output"]
    assert {row[0]: row[2] for row in one["data"]} == HOSTILE
    table, note = generations_json(write_point(outputs, "q", {"a": "x", "b": "y"}, samples=2, tokens=3))
    assert [row[0] for row in json.loads(table)["data"]] == ["a #0", "a #1", "b #0", "b #1"]
    assert note == ""


def test_the_table_of_many_samples_is_truncated(outputs: Path) -> None:
    texts = {f"p{n:04}": "a prompt" for n in range(1500)}
    stored = write_point(outputs, "p", texts, tokens=3)
    complete, note = generations_json(stored, budget_mb=100, max_rows=10_000)
    rows = json.loads(complete)["data"]
    assert (len(rows), note) == (1500, "")
    truncated, note = generations_json(stored)
    assert note == "the first 1000 of 1500 are in generations.json, all in generations.parquet"
    assert json.loads(truncated)["data"] == rows[:1000]
    small, note = generations_json(stored, budget_mb=0.02)
    some = json.loads(small)["data"]
    assert some == rows[: len(some)]
    assert note.startswith(f"the first {len(some)} of 1500 are")
    assert 0.018e6 < len(small) < 0.021e6
    one, note = generations_json(stored, budget_mb=0)
    assert json.loads(one)["data"] == rows[:1], "one row is better than none"
    assert note.startswith("the first 1 of 1500 are")


def test_a_very_long_text_is_truncated_in_the_table(outputs: Path) -> None:
    stored = write_point(outputs, "p", {"a": "word " * 10_000}, tokens=3)
    (row,) = json.loads(generations_json(stored)[0])["data"]
    assert row[1] == f"{('word ' * 4000)}… (50000 characters in all)"


def test_columns_that_a_backend_cannot_fill_are_null_in_the_table(outputs: Path) -> None:
    stored = write_samples(outputs, "p", (TEXTS_ONLY, CHOSEN_ONLY))
    table = json.loads(generations_json(stored)[0])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["output"] for row in rows] == [" a dark night", " dark"]
    assert [row["output_tokens"] for row in rows] == [None, 2]
    assert [row["finish_reason"] for row in rows] == [None, "length"]
    assert [row["mean_logprob"] for row in rows] == [None, -1.0]
    assert metrics_of(stored) == {}
    assert per_prompt_of(stored) == []
    assert params_of(stored) == {"decoding.name": "greedy"}


def test_the_digest_changes_with_the_point_and_only_with_it(outputs: Path) -> None:
    first = point_digest(write_point(outputs, "p", PROMPTS, tokens=3))
    assert point_digest(write_point(outputs, "p", PROMPTS, tokens=3)) == first
    assert point_digest(write_point(outputs, "p", PROMPTS, tokens=4)) != first


def test_tags_are_the_choices_the_warnings_and_what_varies(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("top_p",), tokens=3)
    sweep = sweep.with_point(
        0, varied={"decoding.top_p": 0.5, "model": "other"}, warnings=("one", "two" * 3000)
    )
    tags = tags_of(sweep, sweep.points[0])
    wanted = {"kind": "generation", "sweep_id": sweep.sweep_id, "model": "m", "decoding": "top_p"}
    assert tags.items() >= (wanted | {"decoding.top_p": "0.5", "label": "m/fp32/top_p"}).items()
    assert tags["warnings"].startswith("one\ntwo")
    assert all(len(value) <= 5000 for value in tags.values())
    assert tags["point_id"] == pytest.approx(sweep.points[0].point_id)
