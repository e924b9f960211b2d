"""Params, tags, metrics and the table of generations, as MLflow gets them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import CHOSEN_ONLY, HOSTILE, PROMPTS, TEXTS_ONLY, make_sweep, write_point, write_samples
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from harness.analysis.metric_catalog import METRICS
from harness.store.sweeps import Sweep, SweepPoint
from harness.tracking.facts import (
    metrics_of,
    mlflow_key,
    per_prompt_of,
    point_digest,
    sweep_run_name,
    tags_of,
)
from harness.tracking.generations_table import generations_json
from harness.tracking.params import point_params, text_of, varied_params


@given(st.text(max_size=300))
def test_any_name_becomes_a_legal_key(name: str) -> None:
    key = mlflow_key(name)
    for check in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        check(key)


def test_legal_names_stay_as_they_are() -> None:
    for name in ("latency/ttft_p50_ms", "decoding.top_p", "a b:c-d_e"):
        assert mlflow_key(name) == name


POINT = SweepPoint("m/fp32/top_p", "p", "m", "fp32", "set", "top_p", {"decoding.top_p": 0.1 + 0.2})


def test_a_param_is_a_value_without_the_noise_of_its_last_bits() -> None:
    values = (1, "x", [1, "ü"], True, 0.1 + 0.2, "x" * 9000)
    texts = [text_of(value) for value in values]
    assert texts[:5] == ["1", "x", '[1, "ü"]', "true", "0.3"]
    assert len(texts[5]) == 6000


def test_params_are_the_choices_what_varies_and_what_is_no_default(outputs: Path) -> None:
    params = point_params(POINT, write_point(outputs, "p", {"a": "x" * 9000}))
    assert params["decoding.top_p"] == "0.9"  # as it was requested, which is what was run
    assert (params["model"], params["quantization"], params["decoding"]) == ("m", "fp32", "top_p")
    assert params["generation.stop_strings"] == '["[end]"]'
    assert not {"model.revision", "prompts.items", "generation.seed"} & set(params)


def test_params_of_the_parent_are_the_values_of_what_varies() -> None:
    other = SweepPoint("m/fp32/b", "q", "m", "fp32", "set", "top_p", {"decoding.top_p": 0.5})
    assert varied_params([POINT, other, POINT]) == {"decoding.top_p": "0.3, 0.5"}


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
    assert metrics["latency/ttft_p50_ms"] == round(known["metrics"]["latency/ttft_p50_ms"], 1)
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
    for section in ("probability", "text", "quality", "throughput", "memory", "watermark"):
        assert 1 < sum(key.startswith(f"{section}/") for key in metrics) <= 6
    assert {key for key, _, _ in per_prompt_of(stored)} == {
        "prompt/mean_logprob", "prompt/distinct_2", "prompt/repeated_4", "prompt/output_tokens",
        "prompt/answer_match", "prompt/chrf", "prompt/exact_match", "prompt/valid",
        "prompt/kgw_detected", "prompt/synthid_detected", "prompt/gumbel_detected",
    }  # fmt: skip


def test_the_first_column_of_the_table_is_unique(outputs: Path) -> None:
    one = json.loads(generations_json(write_point(outputs, "p", dict.fromkeys(HOSTILE)))[0])
    assert one["columns"][:3] == ["prompt_id", "prompt", "output"]
    assert {row[0]: row[2] for row in one["data"]} == HOSTILE
    table, note = generations_json(write_point(outputs, "q", {"a": "x", "b": "y"}, samples=2, tokens=3))
    assert [row[0] for row in json.loads(table)["data"]] == ["a", "a #1", "b", "b #1"]
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


def sweep_of(sweep: Sweep, name: str, *points: tuple[str, dict[str, object]]) -> Sweep:
    some = [SweepPoint(f"{d} {v}", "p", "smollm2", "none", "facts", d, v) for d, v in points]
    return replace(sweep, name=name, title="smollm2, 2 strategies, facts", points=tuple(some))


def test_the_names_of_sweeps_runs_begin_with_what_tells_them_apart(outputs: Path) -> None:
    sweep = make_sweep(outputs, tokens=3)
    two = sweep_of(sweep, "sweep", ("top_p", {}), ("min_p", {}))
    assert sweep_run_name(two) == "top_p,min_p · facts · smollm2"
    other = sweep_of(sweep, "sweep", ("greedy", {}), ("beam", {}))
    assert sweep_run_name(other) == "greedy,beam · facts · smollm2"
    keys = ("decoding.temperature", "decoding.top_p")
    grid = [
        ("top_p", dict(zip(keys, (t, p), strict=True))) for t in (0.3, 0.7) for p in (0.1, 0.2, 0.3, 0.4, 0.5)
    ]
    name = sweep_run_name(sweep_of(sweep, "sweep", *grid))
    assert name == "temperature=0.3,0.7 x top_p=0.1,0.2,0.3,0.4,+1 · facts · smollm2 · top_p"
    assert sweep_run_name(sweep_of(sweep, "my-study", ("top_p", {}), ("min_p", {}))) == two.title, (
        "as it was named"
    )
    assert sweep_run_name(sweep_of(sweep, "sweep", ("top_p", {}))) == "facts · smollm2 · top_p"
