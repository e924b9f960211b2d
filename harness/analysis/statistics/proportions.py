"""Confidence intervals of proportions."""

from __future__ import annotations

import math

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
