"""Intervals of means: known cases, an independent bootstrap-t, and coverage by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.analysis.statistics.bootstrap import mean_intervals


def one(*values: float) -> tuple[float, float, float, float]:
    found = mean_intervals(np.array([values]))
    return tuple(float(side[0]) for side in (found.mean, found.low, found.high, found.p))  # type: ignore[return-value]


Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def lognormal(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.lognormal(0.0, 1.0, size)


DIFFERENCES: dict[str, tuple[Draw, float, int]] = {
    "normal": (lambda rng, size: rng.normal(0.3, 2.0, size), 0.3, 20_000),
    "lognormal": (lognormal, math.exp(0.5), 20_000),
    "heavy tails": (lambda rng, size: rng.standard_t(3, size), 0.0, 4000),
    "of two lognormals": (lambda rng, size: lognormal(rng, size) - lognormal(rng, size), 0.0, 4000),
}
"""How differences are spread, their true mean, and how many sets of them are drawn."""


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_a_95_percent_interval_over_30_prompts_covers_within_2_points_of_that(kind: str) -> None:
    draw, true, sets = DIFFERENCES[kind]
    found = mean_intervals(draw(np.random.default_rng(7), (sets, 30)), resamples=1000)
    covered = float(((found.low <= true) & (true <= found.high)).mean())
    assert 0.93 <= covered <= 0.97


def test_a_percentile_bootstrap_would_not_pass_that_simulation() -> None:
    true, rng = math.exp(0.5), np.random.default_rng(7)
    values = lognormal(rng, (1000, 30))
    weights = rng.multinomial(30, [1 / 30] * 30, size=1000) / 30
    low, high = np.quantile(values @ weights.T, [0.025, 0.975], axis=1)
    assert ((low <= true) & (true <= high)).mean() < 0.9


def test_where_some_prompts_made_the_same_text_luck_is_told_in_less_than_5_percent() -> None:
    rng = np.random.default_rng(3)
    for share in (0.05, 0.1, 0.2, 0.5):
        for size in (rng.normal(size=(1500, 30)), np.sign(rng.normal(size=(1500, 30)))):
            found = mean_intervals(size * (rng.random((1500, 30)) < share), resamples=500)
            assert (found.p < 0.05).mean() <= 0.06


@pytest.mark.parametrize("n", [2, 3, 5, 8, 30, 200])
def test_p_is_below_5_percent_just_where_the_interval_leaves_zero_out(n: int) -> None:
    rng = np.random.default_rng(n)
    values = rng.exponential(size=(400, n)) - rng.random((400, 1)) * 2
    values[:100] *= rng.random((100, n)) < 0.3
    values[100:120] = 0.25
    found = mean_intervals(values)
    outside = (found.low > 0) | (found.high < 0)
    assert (outside == (found.p < 0.05)).all()
    assert ((found.low <= found.mean) & (found.mean <= found.high)).all()
    assert ((found.p > 0) & (found.p <= 1)).all()


def test_two_prompts_have_students_interval() -> None:
    mean, low, high, p = one(1.0, 3.0)
    assert mean == 2
    assert (low, high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-3)  # standard error 1, t(1)
    assert p == pytest.approx(stats.ttest_1samp([1.0, 3.0], 0).pvalue)


def test_one_prompt_or_none_has_no_interval() -> None:
    assert one(0.7)[0] == 0.7
    assert all(math.isnan(side) for side in one(0.7)[1:])
    found = mean_intervals(np.full((1, 3), np.nan))
    assert found.count[0] == 0
    assert math.isnan(found.mean[0])
    assert len(mean_intervals(np.zeros((0, 0))).mean) == 0


def test_values_all_alike_are_as_sure_as_coins_that_all_fell_on_one_side() -> None:
    assert one(*[0.1] * 8) == pytest.approx((0.1, 0.1, 0.1, 2 / 2**8))
    assert one(*[0.0] * 8) == (0, 0, 0, 1)
    mean, low, high, p = one(*[-2.0] * 4)
    assert (mean, low, high, p) == (-2, -2, 0, 0.125)  # four coins tell nothing


def test_the_same_text_on_most_prompts_leaves_few_coins() -> None:
    mean, low, _, p = one(*[0.0] * 25, 1, 1, 1, 1, 1)
    assert mean == pytest.approx(1 / 6)
    assert p == 2 / 2**5
    assert low == 0
    assert one(*[0.0] * 15, *range(1, 16))[3] < 0.01


def test_missing_values_do_not_count_and_rows_do_not_meet() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=12), rng.exponential(size=9)
    table = np.full((2, 15), np.nan)
    table[0, 3:] = a
    table[1, [0, 2, 4, 5, 6, 7, 9, 11, 14]] = b
    table[1, 1] = np.inf
    together = mean_intervals(table)
    for place, alone in enumerate((mean_intervals(a[None]), mean_intervals(b[None]))):
        for name in ("mean", "low", "high", "p", "count"):
            assert getattr(together, name)[place] == pytest.approx(getattr(alone, name)[0], rel=1e-12)


def test_the_interval_of_mirrored_values_is_mirrored() -> None:
    values = lognormal(np.random.default_rng(6), (5, 25))
    found, mirrored = mean_intervals(values), mean_intervals(-values)
    assert mirrored.low == pytest.approx(-found.high)
    assert mirrored.high == pytest.approx(-found.low)
    assert mirrored.p == pytest.approx(found.p)


def test_the_interval_moves_and_stretches_with_the_values() -> None:
    values = np.random.default_rng(5).exponential(size=(1, 25))
    found, moved = mean_intervals(values), mean_intervals(3 * values + 100)
    assert moved.low[0] == pytest.approx(3 * found.low[0] + 100)
    assert moved.high[0] == pytest.approx(3 * found.high[0] + 100)


def test_a_skewed_sample_has_the_bounds_of_a_bootstrap_t_made_the_long_way() -> None:
    values = np.random.default_rng(2).lognormal(size=30)
    rng = np.random.default_rng(99)
    ts = []
    for _ in range(10_000):
        again = rng.choice(values, 30)
        ts.append((again.mean() - values.mean()) / (again.std(ddof=1) / math.sqrt(30)))
    error = values.std(ddof=1) / math.sqrt(30)
    low_t, high_t = np.quantile(ts, [0.025, 0.975])
    student = stats.t.interval(0.95, 29, values.mean(), error)
    _, low, high, _ = one(*values)
    assert high == pytest.approx(values.mean() - low_t * error, rel=0.03)  # far past Student's
    assert high > student[1] + 0.1 * error
    assert low == pytest.approx(min(student[0], values.mean() - high_t * error), rel=0.03)


def test_p_is_told_far_beyond_what_resamples_can_count() -> None:
    """A correction for 700 comparisons needs 7e-5, of which 10,000 resamples know nothing."""
    rng = np.random.default_rng(4)
    base = rng.normal(size=100)
    base = (base - base.mean()) / base.std(ddof=1)
    shifts = np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.8])
    found = mean_intervals(base + shifts[:, None])
    exact = [stats.ttest_1samp(base + shift, 0).pvalue for shift in shifts]
    assert (np.diff(found.p) < 0).all()
    assert found.p[-1] < 1e-9
    assert np.abs(np.log10(found.p / exact)).max() < 1.5
    assert np.abs(np.log10(found.p / exact))[:3].max() < 0.3
