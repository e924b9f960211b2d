"""Confidence intervals of shares: of samples that are exactly right, that end in a loop, of votes won."""

from __future__ import annotations

import math

import numpy as np

Z95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


def wilson(successes: float, trials: float, z: float = Z95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927, JASA 22:209), 95% for the default `z`.

    Args:
        successes: may be fractional, where a tie counts half.
        trials: how many there were; of none, the interval is all of 0 to 1.
        z: quantile of the standard normal distribution.
    """
    if trials <= 0:
        return 0.0, 1.0
    share, z2 = successes / trials, z * z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    # Exact at the ends, where rounding would leave 1e-17.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def clustered_wilson(means: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of a share of samples that are alike within a prompt.

    Wilson's interval of as many independent samples as have the standard error that the prompts show (Korn
    and Graubard 1998, Survey Methodology 24:193): between the number of prompts and that of samples. Where
    all samples are the same, the prompts alone are counted.

    Args:
        means, counts: (n,) share and number of samples of each prompt; prompts without samples are left out.
    """
    means, counts = means[counts > 0], counts[counts > 0]
    samples, prompts = float(counts.sum()), len(counts)
    if not prompts:
        return 0.0, 1.0
    share = float(means @ counts) / samples
    if prompts < 2 or share in (0.0, 1.0):
        return wilson(share * prompts, prompts)
    residuals = counts * (means - share)
    variance = float(residuals @ residuals) * prompts / (prompts - 1) / samples**2
    effective = share * (1 - share) / variance if variance > 0 else samples
    effective = min(max(effective, prompts), samples)
    return wilson(share * effective, effective)
