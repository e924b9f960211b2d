"""Tests of intervals of shares against scipy's."""

import numpy as np
import pytest

from harness.analysis.statistics.proportions import clustered_wilson, wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (3, 17), (50, 100), (1, 1)])
def test_wilson_is_scipys(successes: int, trials: int) -> None:
    from scipy.stats import binomtest

    known = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((known.low, known.high))


def test_samples_that_are_all_alike_within_prompts_count_once() -> None:
    means = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert clustered_wilson(means, np.full(6, 10.0)) == pytest.approx(wilson(2, 6))


def test_prompts_that_do_not_differ_count_every_sample() -> None:
    assert clustered_wilson(np.full(4, 0.5), np.full(4, 10.0)) == pytest.approx(wilson(20, 40))


def test_without_trials_anything_is_possible() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert clustered_wilson(np.array([0.0]), np.array([0.0])) == (0.0, 1.0)
