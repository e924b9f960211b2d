"""Differences of latencies against scipy's Welch test and numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from harness.analysis.statistics.welch import welch_interval


def test_one_prompt_is_welchs_test() -> None:
    ours, theirs = [5.0, 5.4, 5.1, 5.9], [4.0, 4.8, 4.1]
    known = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = known.confidence_interval(0.95)
    mean, low, high, p = welch_interval([ours], [theirs])
    assert mean == pytest.approx(5.35 - 4.3)
    assert (low, high, p) == pytest.approx((interval.low, interval.high, known.pvalue))


def test_prompts_of_their_own_lengths_are_paired_by_hand() -> None:
    # Both prompts 1 ms apart, one ten times as long. Variances of 0.02 / 2 at four sides, over 2 squared,
    # are 0.01 together: a standard error of 0.1; degrees of freedom (4 v)^2 / (4 v^2 / 1) = 4.
    ours = [[2.0, 2.2], [20.0, 20.2]]
    theirs = [[1.0, 1.2], [19.0, 19.2]]
    mean, low, high, _ = welch_interval(ours, theirs)
    assert mean == pytest.approx(1)
    assert low is not None
    assert high is not None
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * math.sqrt(0.01))


def test_without_repetitions_or_spread_there_is_no_interval() -> None:
    assert welch_interval([[3.0]], [[1.0, 2.0]]) == (1.5, None, None, None)
    assert welch_interval([[3.0, 3.0]], [[2.0, 2.0]]) == (1.0, None, None, None)
