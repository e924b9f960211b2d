"""The metrics of drift, on numbers worked out by hand or by NumPy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from harness.analysis.drift_summary import (
    TokenDrift,
    drift_metrics,
    kl_by_token,
    read_token_drift,
    worst_rows,
)
from harness.analysis.first_divergence import divergence_metrics, first_difference
from harness.store.stored_point import StoredPoint
from harness.store.tables import DRIFT, drift_rows


def made_up(prompts: int, each: int, seed: int = 0) -> TokenDrift:
    rng = np.random.default_rng(seed)
    count = prompts * each
    logprob = -rng.exponential(1.0, count)
    return TokenDrift(
        prompt_ids=tuple(f"p{i}" for i in range(prompts)),
        prompt=np.repeat(np.arange(prompts), each),
        token_id=rng.integers(0, 30, count),
        logprob=logprob,
        drift_logprob=logprob - 0.1 * rng.random(count),
        same_top=rng.random(count) < 0.9,
        margin=rng.random(count),
        kl=rng.lognormal(-6, 2, count),
        kl_error=np.zeros(count),
    )


def test_definitions_are_llama_cpps() -> None:
    kl = np.array([0.0, 0.1, 0.2, 0.7])
    tokens = TokenDrift(
        ("a", "b"), np.array([0, 0, 1, 1]), np.array([5, 6, 5, 7]), kl, np.zeros(4),
        np.log([0.5, 0.25, 0.8, 0.1]), np.log([0.4, 0.25, 0.9, 0.2]),
        np.array([True, True, False, False]), np.array([0.3, 0.2, 0.01, 0.06]),
    )  # fmt: skip
    metrics, intervals = drift_metrics(tokens)
    assert metrics["kl_mean"] == pytest.approx(0.25)
    assert metrics["kl_median"] == pytest.approx(0.15)
    assert metrics["kl_p90"] == pytest.approx(0.2 + 0.7 * 0.5)
    assert metrics["kl_max"] == 0.7
    assert metrics["same_top"] == 0.5
    assert metrics["same_top_clear"] == pytest.approx(2 / 3)
    assert metrics["rms_dp"] == pytest.approx(math.sqrt((0.01 + 0 + 0.01 + 0.01) / 4))
    # PPL(Q) / PPL(base): the ratio of two geometric means.
    ratio = (0.4 * 0.25 * 0.9 * 0.2) ** -0.25 / (0.5 * 0.25 * 0.8 * 0.1) ** -0.25
    assert metrics["perplexity_ratio"] == pytest.approx(ratio)
    assert metrics["ln_perplexity_ratio"] == pytest.approx(math.log(ratio))
    assert intervals == {}, "two prompts are too few"


def test_each_metric_has_an_interval_around_it() -> None:
    metrics, intervals = drift_metrics(made_up(12, 40))
    assert set(intervals) == set(metrics) - {"kl_error"}
    for name, (low, high) in intervals.items():
        assert low <= metrics[name] <= high, name
        assert low < high, name


def test_no_drift_has_no_width() -> None:
    tokens = made_up(6, 10)
    same = TokenDrift(
        **{**vars(tokens), "kl": np.zeros(60), "drift_logprob": tokens.logprob, "same_top": np.ones(60, bool)}
    )
    metrics, intervals = drift_metrics(same)
    assert metrics["kl_mean"] == metrics["kl_max"] == metrics["rms_dp"] == 0.0
    assert metrics["same_top"] == metrics["perplexity_ratio"] == 1.0
    assert {low == high for low, high in intervals.values()} == {True}


@pytest.mark.parametrize(
    ("one", "other", "step"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 2, 3], [1, 5, 3], 1),
        ([1, 2], [1, 2, 3], 2),
        ([], [], None),
        ([4], [5], 0),
    ],
)
def test_outputs_diverge_where_their_tokens_differ(
    one: list[int], other: list[int], step: int | None
) -> None:
    assert first_difference(one, other) == step


def test_the_median_divergence_of_outputs_that_may_never_diverge() -> None:
    assert divergence_metrics([3, None, 7]) == {"parted": 2 / 3, "first_divergence": 7.0}
    assert divergence_metrics([3, None, 7, 8]) == {"parted": 0.75, "first_divergence": 7.5}
    assert divergence_metrics([3, None]) == {"parted": 0.5}
    assert divergence_metrics([None]) == {"parted": 0.0}
    assert divergence_metrics([]) == {}


def test_the_most_affected_tokens() -> None:
    tokens = TokenDrift(
        ("a",), np.zeros(4, int), np.array([5, 6, 5, 7]), np.array([1.0, 2.0, 2.0, 0.0]), np.zeros(4),
        np.zeros(4), np.zeros(4), np.ones(4, bool), np.ones(4),
    )  # fmt: skip
    assert kl_by_token(tokens) == [
        {"token_id": 5, "count": 2, "kl_mean": 1.5, "share": 0.6},
        {"token_id": 6, "count": 1, "kl_mean": 2.0, "share": 0.4},
    ]


def test_the_worst_rows_have_their_context(tmp_path: Path) -> None:
    stored = StoredPoint(tmp_path)
    kl = {"a": [0.1, 5.0, 0.0], "b": [4.0, 0.2]}

    def rows(name: str, values: list[float]) -> Any:
        count = len(values)
        zeros: dict[str, Any] = {
            field.name: np.zeros(count) for field in DRIFT if pa.types.is_floating(field.type)
        }
        zeros |= {"rank": np.ones(count, int), "drift_rank": np.ones(count, int), "kl": np.array(values)}
        zeros |= {"same_top": np.ones(count, bool), "top_ids": np.ones((count, 1), int)}
        zeros["top_logprobs"] = np.zeros((count, 1))
        return drift_rows(
            name, 0, list(range(count)), [f"{name}{i} " for i in range(count)], [["x"]] * count, zeros
        )

    stored.write_tables("drift", DRIFT, (rows(name, values) for name, values in kl.items()))
    tokens = read_token_drift(stored)
    assert tokens.prompt_ids == ("a", "b")
    first, second, third = worst_rows(stored, "drift", tokens.kl, most=3)
    assert (first["before"], first["token"], first["after"]) == ("a0 ", "a1 ", "a2 ")
    assert (second["before"], second["token"], second["after"]) == ("", "b0 ", "b1 ")
    assert third["kl"] == 0.2
