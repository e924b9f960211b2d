"""Tests of sample sizes against the noncentral t distribution."""

import pytest

from harness.analysis.statistics.sample_size import (
    critical_t,
    detectable,
    in_round_numbers,
    needed_prompts,
    needed_samples,
)


@pytest.mark.parametrize("comparisons", [1, 7, 28])
@pytest.mark.parametrize("effect", [0.2, 0.5, 1.0])
def test_needed_prompts_find_the_difference_in_four_of_five_sweeps(effect: float, comparisons: int) -> None:
    from scipy.stats import nct

    needed = needed_prompts(effect, 1.0, comparisons)
    assert needed is not None
    power = nct.sf(critical_t(needed, comparisons), needed - 1, effect * needed**0.5)
    assert power == pytest.approx(0.8, abs=0.04)
    assert detectable(1.0, needed, comparisons) <= effect < detectable(1.0, needed - 1, comparisons)


def test_no_difference_needs_no_number_of_prompts() -> None:
    assert needed_prompts(0.0, 1.0, 1) is None
    assert needed_prompts(1e-6, 1.0, 1) is None


def test_critical_value_of_one_comparison_is_students() -> None:
    from scipy.stats import t

    assert critical_t(10, 1) == pytest.approx(t.ppf(0.975, 9))


@pytest.mark.parametrize(("prompts", "said"), [(7, 7), (21, 25), (96, 100), (101, 110), (1234, 1300)])
def test_advice_is_rounded_up(prompts: int, said: int) -> None:
    assert in_round_numbers(prompts) == said


def test_needed_samples_leave_just_the_spread_that_shows_the_difference() -> None:
    between, within, prompts = 0.5, 2.0, 30
    deviation = (between**2 + within**2 / 3) ** 0.5
    needed = needed_samples(0.6, deviation, within, 3, prompts, 1)
    assert needed is not None
    spread = [(between**2 + within**2 / m) ** 0.5 for m in (needed, needed - 1)]
    assert detectable(spread[0], prompts, 1) <= 0.6 < detectable(spread[1], prompts, 1)


def test_no_number_of_samples_makes_prompts_alike() -> None:
    assert needed_samples(0.1, 2.0, 0.5, 3, 30, 1) is None
    assert needed_samples(0.0, 1.0, 1.0, 3, 30, 1) is None
