"""Tests of the best points: what is claimed of many points, of few prompts."""

import numpy as np
import pytest

from harness.analysis.best_points import MOST_POINTS, _ahead
from harness.analysis.statistics.simultaneous import LEVEL


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("prompts", [2, 3, 5])
def test_few_prompts_that_differ_alike_prove_nothing_among_many_points(prompts: int, shares: bool) -> None:
    gains = np.zeros((MOST_POINTS + 8, prompts))
    gains[4] = 1.0
    found = _ahead(gains, 4, shares)
    assert (np.delete(found.p, 4) >= LEVEL).all()
    assert (found.low <= 0).all()


@pytest.mark.parametrize("shares", [False, True])
def test_intervals_of_many_points_leave_out_0_just_where_p_says_so(shares: bool) -> None:
    rng = np.random.default_rng(0)
    gains = rng.integers(0, 2, (MOST_POINTS + 8, 30)).astype(float)
    gains[3] = 1.0
    gains[5] = rng.random(30) < 0.1
    found = _ahead(gains, 3, shares)
    others = np.arange(len(gains)) != 3
    assert ((found.p < LEVEL) == (found.low > 0))[others].all()
    assert found.p[5] < LEVEL


def test_the_best_of_points_with_equal_means_is_significantly_worse_than_none_in_19_of_20_sweeps() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(60):
        gains = rng.normal(size=(4, 20)) + rng.normal(size=20)
        best = int(gains.mean(axis=1).argmax())
        found = _ahead(gains, best, False)
        wrong += bool((np.delete(found.p, best) < LEVEL).any())
    assert wrong <= 8
