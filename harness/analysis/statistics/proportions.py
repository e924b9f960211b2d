"""Confidence intervals of shares: of samples that are exactly right, that end in a loop, of votes won."""

from __future__ import annotations

import numpy as np

Z = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """Return the 95% score interval of a share (Wilson 1927, JASA 22:209); (0, 1) without trials."""
    if not trials > 0:
        return 0.0, 1.0
    share, square = successes / trials, Z * Z / trials
    centre = (share + square / 2) / (1 + square)
    reach = Z / (1 + square) * (share * (1 - share) / trials + square / (4 * trials)) ** 0.5
    return max(0.0, centre - reach), min(1.0, centre + reach)


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
