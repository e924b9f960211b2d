"""Metrics of steps on values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.metrics.probability import STEP_COLUMNS, probability_metrics, step_sums


def steps(*rows: tuple[float, float, float, float, int, float]) -> dict[str, np.ndarray]:
    return {
        name: np.array(column) for name, column in zip(STEP_COLUMNS, zip(*rows, strict=True), strict=True)
    }


# logprob, warped_logprob, entropy, warped_entropy, rank, kept_mass
FIRST = steps((-0.5, -0.25, 2.0, 1.0, 1, 0.5), (-1.5, -0.75, 1.0, 0.5, 2, 1.0))
SECOND = steps((-4.1, -1.0, 1.0, 0.0, 7, 0.75), (-3.9, -1.0, 1.0, 0.5, 3, 0.75))


def test_a_sample_by_hand() -> None:
    assert probability_metrics(step_sums(FIRST)) == pytest.approx(
        {
            "mean_logprob": -1,
            "mean_warped_logprob": -0.5,
            "perplexity": math.e,
            "mean_entropy": 1.5,
            "mean_warped_entropy": 0.75,
            "not_top_share": 0.5,
            "kept_mass": 0.75,
            "surprise_share": 0,
        }
    )
    second = probability_metrics(step_sums(SECOND))
    assert second["surprise_share"] == 0.5, "4.1 is 3.1 nats above its entropy, 3.9 only 2.9"
    assert second["not_top_share"] == 1


def test_a_point_counts_every_step_alike() -> None:
    both = step_sums(FIRST) + step_sums({name: column[:1] for name, column in SECOND.items()})
    metrics = probability_metrics(both)
    assert metrics["mean_logprob"] == pytest.approx(-6.1 / 3)
    assert metrics["perplexity"] == pytest.approx(math.exp(6.1 / 3))
    assert metrics["surprise_share"] == pytest.approx(1 / 3)


def test_no_steps_and_impossible_ones() -> None:
    assert probability_metrics(step_sums({name: np.empty(0) for name in STEP_COLUMNS})) == {}
    forced = probability_metrics(step_sums(steps((-math.inf, 0.0, 1.0, 0.0, 9, 1.0))))
    assert forced["perplexity"] == math.inf
    assert forced["surprise_share"] == 1


def test_unknown_columns_have_no_metrics() -> None:
    """NaN, or no column: the backend does not report it; what is known counts as ever."""
    nothing = np.full(2, math.nan)
    metrics = probability_metrics(step_sums({"logprob": FIRST["logprob"], "rank": nothing}))
    assert metrics == pytest.approx({"mean_logprob": -1, "perplexity": math.e})
    some = step_sums({"logprob": FIRST["logprob"]}) + step_sums(SECOND)
    assert probability_metrics(some)["mean_entropy"] == 1
    assert probability_metrics(step_sums({})) == {}
