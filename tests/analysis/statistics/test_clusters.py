"""Intervals over prompts of figures over tokens: their coverage, and the plain cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.statistics.clusters import quantile_intervals, ratio_interval


def test_the_interval_of_a_mean_covers_it() -> None:
    """95% is claimed; a percentile bootstrap over 8 skewed prompts would cover 80%."""
    luck = np.random.default_rng(1)
    covered = 0
    for turn in range(200):
        counts = luck.integers(20, 60, 8)
        sums = luck.lognormal(0, 0.7, 8) * counts
        low, high = ratio_interval(sums, counts.astype(float), draws=600, seed=turn) or (0.0, 0.0)
        covered += low <= math.exp(0.7**2 / 2) <= high
    assert covered > 0.87 * 200


def test_the_interval_of_a_mean_of_many_is_the_normal_one() -> None:
    luck = np.random.default_rng(2)
    sums = luck.normal(3, 1, 400)
    low, high = ratio_interval(sums, np.ones(400)) or (0.0, 0.0)
    half = 1.96 * sums.std(ddof=1) / 20
    assert low == pytest.approx(sums.mean() - half, abs=0.02)
    assert high == pytest.approx(sums.mean() + half, abs=0.02)
    assert ratio_interval(sums[:3], np.ones(3)) is None


def test_the_interval_of_a_quantile_is_that_of_drawn_prompts() -> None:
    luck = np.random.default_rng(3)
    values, unit = luck.random(300), np.repeat(np.arange(30), 10)
    ((low, high),) = quantile_intervals(values, unit, 30, [0.5])
    by_unit = values.reshape(30, 10)
    drawn = [np.median(by_unit[luck.integers(0, 30, 30)]) for _ in range(2000)]
    assert low == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert high == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)
