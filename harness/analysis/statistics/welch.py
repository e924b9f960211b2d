"""The difference of two latencies from a few timed repetitions of a few prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.statistics.bootstrap import CONFIDENCE


def welch_interval(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], comparisons: int = 1
) -> tuple[float, float | None, float | None, float | None]:
    """Return the mean over prompts of the difference in mean time, with Welch's interval over repetitions.

    The timed prompts are too few to generalise to others, so they are taken as fixed: the difference of each
    prompt is that of its mean times, its variance the sum of both variances over their repetitions, and the
    degrees of freedom are Welch and Satterthwaite's (Welch 1947, Biometrika 34:28). So the interval says how
    much these prompts would differ if they were timed again right away on this machine. It does not cover
    that the machine may be slower on another day, nor that consecutive repetitions are correlated: the noise
    floor does.

    Args:
        ours, theirs: times of each prompt's repetitions; of the same prompts.
        comparisons: number of differences whose intervals hold together (Šidák 1967, JASA 62:626).

    Returns:
        (mean, low, high, p); the last three None where a prompt was timed only once, or no times vary.
    """
    means = [float(np.mean(a) - np.mean(b)) for a, b in zip(ours, theirs, strict=True)]
    mean = float(np.mean(means))
    sides = [side for pair in zip(ours, theirs, strict=True) for side in pair]
    if any(len(side) < 2 for side in sides):
        return mean, None, None, None
    variances = np.array([np.var(side, ddof=1) / len(side) for side in sides]) / len(means) ** 2
    variance = float(variances.sum())
    if variance <= 0:
        return mean, None, None, None
    from scipy.special import stdtr, stdtrit

    freedom = variance**2 / float((variances**2 / [len(side) - 1 for side in sides]).sum())
    error = variance**0.5
    level = 1 - CONFIDENCE ** (1 / comparisons)
    reach = -float(stdtrit(freedom, level / 2)) * error
    single = 2 * float(stdtr(freedom, -abs(mean) / error))
    return mean, mean - reach, mean + reach, 1 - (1 - single) ** comparisons
