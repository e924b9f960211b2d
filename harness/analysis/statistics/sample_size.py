"""How many prompts a difference needs to be found, and which differences a number of prompts can show.

A difference is found when its t exceeds the critical value of its family, here Šidák's (1967, JASA 62:626) of
Student's distribution. To find it in 80% of sweeps, the expected t must lie 0.84 standard errors above.
"""

from __future__ import annotations

import math

POWER_Z = 0.8416212335729143
"""The 80% quantile of the normal distribution."""

MOST_PROMPTS = 1_000_000

LEAST_PROMPTS = 6
"""Of fewer prompts the sign flips are too few for a p-value below 0.05: 2 of 2^5 or more."""


def critical_t(prompts: int, comparisons: int) -> float:
    """Return the two-sided 5% critical value of t over prompts, for a family of comparisons."""
    from scipy.special import stdtrit

    level = 1 - 0.95 ** (1 / max(1, comparisons))
    return float(stdtrit(prompts - 1, 1 - level / 2))


def detectable(deviation: float, prompts: int, comparisons: int) -> float:
    """Return the mean difference that is found in 80% of sweeps with this many prompts; infinite below two.

    `deviation` is the standard deviation of the differences over prompts.
    """
    if prompts < 2:
        return float("inf")
    return (critical_t(prompts, comparisons) + POWER_Z) * deviation / prompts**0.5


def needed_prompts(difference: float, deviation: float, comparisons: int) -> int | None:
    """Return how many prompts show a difference of this size in 80% of sweeps; None beyond a million."""
    if not abs(difference) > 0 or detectable(deviation, MOST_PROMPTS, comparisons) > abs(difference):
        return None
    low, high = 2, MOST_PROMPTS
    while low < high:
        middle = (low + high) // 2
        if detectable(deviation, middle, comparisons) <= abs(difference):
            high = middle
        else:
            low = middle + 1
    return low


def in_round_numbers(prompts: int) -> int:
    """Return the number of prompts as advice gives it: rounded up to two digits at most."""
    step = 5 if 20 < prompts < 100 else 10 ** max(0, len(str(prompts)) - 2)
    return -(-prompts // step) * step


def needed_samples(
    difference: float, deviation: float, within: float, samples: int, prompts: int, comparisons: int
) -> int | None:
    """Return how many samples a prompt show a difference of this size in 80% of sweeps; None where none do.

    More samples make only a prompt's mean more exact: what its differences vary by beyond that remains.

    Args:
        deviation: of the prompts' mean differences, over prompts.
        within: standard deviation of a difference between samples of one prompt.
        samples, prompts: the numbers that the deviation was observed with.
    """
    if prompts < 2 or samples < 1 or not abs(difference) > 0:
        return None
    between = max(0.0, deviation**2 - within**2 / samples)
    allowed = (abs(difference) / detectable(1.0, prompts, comparisons)) ** 2
    if allowed <= between:
        return None
    return max(1, math.ceil(within**2 / (allowed - between) - 1e-9))
