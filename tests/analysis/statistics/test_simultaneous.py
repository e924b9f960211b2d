"""Tests of simultaneous intervals against scipy, brute force, and what must not change them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.analysis.statistics.simultaneous import LEVEL, simultaneous_intervals


def _t(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=-1) / (rows.std(axis=-1, ddof=1) / rows.shape[-1] ** 0.5)


def test_p_of_one_difference_is_no_smaller_than_that_of_scipys_sign_flips() -> None:
    from scipy.stats import permutation_test

    values = np.array([1.2, 0.4, 2.2, 0.9, -0.3, 1.7, 0.8, 1.1])
    known = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    found = simultaneous_intervals(values[None])
    assert found.p[0] >= known.pvalue - 1e-12
    assert found.mean[0] == pytest.approx(values.mean())
    assert found.deviation[0] == pytest.approx(values.std(ddof=1))


def test_p_of_two_shares_is_that_of_all_flips() -> None:
    values = np.array([[0.5, 1.0, 0.5, 0.25, 1.0, 0.75], [0.0, -0.5, 0.25, 0.0, -1.0, 0.5]])
    padded = np.concatenate([values, [[1.0, -1.0]] * 2], axis=1)
    observed = np.abs(_t(padded))
    reached = np.zeros(2)
    for signs in itertools.product((1.0, -1.0), repeat=6):
        largest = np.abs(_t(padded * [*signs, 1.0, 1.0])).max()
        reached += largest >= observed - 1e-9
    assert simultaneous_intervals(values, shares=True).p == pytest.approx(reached / 64)


def _case(rng: np.random.Generator, i: int) -> np.ndarray:
    n, k = int(rng.integers(1, 6)) if i % 3 == 0 else int(rng.integers(6, 25)), int(rng.integers(1, 4))
    shift = rng.choice([0.0, 0.5, 1.5])
    values = np.asarray(rng.normal(shift, 1, (k, n)))
    kind = i % 5
    if kind == 1:
        values = np.round(values)
    elif kind == 2:
        values *= rng.random((k, n)) < 0.2
    elif kind == 3:
        values = np.clip(np.round(values), -1, 1)
    elif kind == 4:
        values[rng.random((k, n)) < 0.2] = np.nan
    if i % 7 == 0:
        values[0] = rng.choice([0.0, 2.0])
    return values


@pytest.mark.parametrize("i", range(60))
def test_interval_leaves_out_0_just_where_p_is_below_the_level(i: int) -> None:
    values = _case(np.random.default_rng(i), i)
    shares = i % 5 == 3 and i % 7 != 0
    found = simultaneous_intervals(values, shares)
    for mean, low, high, p, count in zip(
        found.mean, found.low, found.high, found.p, found.count, strict=True
    ):
        assert np.isnan(p) == (count < 2)
        if np.isfinite(low):
            assert low <= mean <= high
            assert (p < LEVEL) == (low > 0 or high < 0)


def test_zeros_and_single_prompts_have_no_interval() -> None:
    found = simultaneous_intervals(np.array([[0.0, 0.0, 0.0], [1.0, np.nan, np.nan], [np.nan] * 3]))
    assert np.isnan(found.low).all()
    assert found.p[0] == 1.0
    assert np.isnan(found.p[1:]).all()
    assert list(found.count) == [3, 1, 0]


def test_scale_sign_and_order_of_comparisons_do_not_matter() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, (3, 12))
    plain = simultaneous_intervals(values)
    scaled = simultaneous_intervals(values * 1000)
    assert scaled.low == pytest.approx(plain.low * 1000)
    assert scaled.p == pytest.approx(plain.p)
    mirrored = simultaneous_intervals(-values)
    assert mirrored.low == pytest.approx(-plain.high)
    assert mirrored.p == pytest.approx(plain.p)
    assert simultaneous_intervals(values[::-1]).p == pytest.approx(plain.p[::-1])


def test_order_of_prompts_does_not_matter_to_shares() -> None:
    values = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], (2, 11), p=[0.1, 0.4, 0.5])
    turned = simultaneous_intervals(values[:, ::-1], shares=True)
    assert turned.p == pytest.approx(simultaneous_intervals(values, shares=True).p)
