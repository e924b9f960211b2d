"""Wilson's interval, compared with scipy and with the equation that it solves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.statistics.proportions import Z95, clustered_wilson, wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 8), (5, 8), (30, 30), (17, 100)])
def test_it_is_scipys(successes: int, trials: int) -> None:
    binomtest = pytest.importorskip("scipy.stats").binomtest
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_its_ends_are_z_standard_errors_away_from_the_share() -> None:
    for end in wilson(3.5, 9):  # with a tie, which counts half
        assert abs(3.5 / 9 - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / 9))


def test_without_trials_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_samples_that_are_all_alike_within_prompts_count_once() -> None:
    means = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert clustered_wilson(means, np.full(6, 10.0)) == pytest.approx(wilson(2, 6))


def test_prompts_that_do_not_differ_count_every_sample() -> None:
    assert clustered_wilson(np.full(4, 0.5), np.full(4, 10.0)) == pytest.approx(wilson(20, 40))


def test_without_trials_anything_is_possible() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert clustered_wilson(np.array([0.0]), np.array([0.0])) == (0.0, 1.0)
