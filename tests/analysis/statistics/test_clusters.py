"""Intervals over prompts of statistics over tokens: their coverage, and the plain cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.statistics.bootstrap import mean_intervals
from harness.analysis.statistics.clusters import quantile_intervals, ratio_residuals


def interval(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return the interval of sum(sums) / sum(counts), of clusters of `counts` equal values each."""
    cluster = np.repeat(np.arange(len(sums)), counts)
    mean, residuals = ratio_residuals((sums / counts)[cluster], cluster, len(sums))
    assert mean == pytest.approx(sums.sum() / counts.sum())
    assert residuals.mean() == pytest.approx(0, abs=1e-12)
    found = mean_intervals(residuals[None])
    return mean + found.low[0], mean + found.high[0]


def test_the_interval_of_a_mean_covers_it() -> None:
    """95% is claimed; a percentile bootstrap over 8 skewed prompts would cover 80%."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        counts = rng.integers(20, 60, 8)
        low, high = interval(rng.lognormal(0, 0.7, 8) * counts, counts)
        covered += low <= math.exp(0.7**2 / 2) <= high
    assert covered > 0.87 * 200


def test_the_interval_of_a_mean_of_many_is_the_normal_one() -> None:
    rng = np.random.default_rng(2)
    sums = rng.normal(3, 1, 400)
    low, high = interval(sums, np.ones(400, int))
    half = 1.96 * sums.std(ddof=1) / 20
    assert low == pytest.approx(sums.mean() - half, abs=0.02)
    assert high == pytest.approx(sums.mean() + half, abs=0.02)


def test_weights_and_empty_clusters() -> None:
    """A weight is as good as that many equal values; a cluster without weight does not count."""
    values, cluster = np.array([1.0, 2.0, 4.0, 9.0]), np.array([0, 0, 2, 3])
    mean, residuals = ratio_residuals(values, cluster, 5, np.array([1.0, 2.0, 3.0, 0.0]))
    repeated = ratio_residuals(np.array([1.0, 2, 2, 4, 4, 4]), np.array([0, 0, 0, 1, 1, 1]), 2)
    assert mean == repeated[0] == 17 / 6
    assert residuals.tolist() == pytest.approx(repeated[1].tolist())
    assert math.isnan(ratio_residuals(values, cluster, 5, np.zeros(4))[0])


def test_the_interval_of_a_quantile_is_that_of_resampled_prompts() -> None:
    rng = np.random.default_rng(3)
    values, unit = rng.random(300), np.repeat(np.arange(30), 10)
    ((low, high),) = quantile_intervals(values, unit, 30, [0.5])
    by_unit = values.reshape(30, 10)
    drawn = [np.median(by_unit[rng.integers(0, 30, 30)]) for _ in range(2000)]
    assert low == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert high == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)
