"""Confidence intervals of figures over tokens, where the tokens of one prompt hang together.

What is drawn anew is therefore a prompt with all its tokens. `bootstrap` has the intervals of a plain mean of
one value a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_UNITS = 4
"""Of fewer prompts no interval is told."""

_WORK = 20_000_000  # numbers looked at by the resampling of quantiles


def ratio_interval(
    sums: np.ndarray, counts: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """95% studentised bootstrap interval of the mean sum(sums) / sum(counts), units drawn with replacement.

    Args:
        sums, counts: (P,) of each unit, a prompt; units without a count are left out.
        draws: resamples.
        seed: of the drawing.

    Returns:
        None where there are fewer than LEAST_UNITS units, or they are not finite.
    """
    there = counts > 0
    sums, counts = sums[there].astype(np.float64), counts[there].astype(np.float64)
    if len(sums) < LEAST_UNITS or not np.isfinite(sums).all():
        return None
    mean, error = _mean_and_error(sums[None], counts[None])
    if error[0] == 0:
        return float(mean[0]), float(mean[0])
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(0, draws, 200):
        drawn = rng.integers(0, len(sums), (200, len(sums)))
        means, errors = _mean_and_error(sums[drawn], counts[drawn])
        ratios.append((means[errors > 0] - mean) / errors[errors > 0])
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return float(mean[0] - high * error[0]), float(mean[0] - low * error[0])


def _mean_and_error(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) ratio estimates of (B, P) units, and their standard errors (linearized, Cochran 1977, 6.4)."""
    units = sums.shape[1]
    total = counts.sum(1)
    mean = sums.sum(1) / total
    residuals = sums - mean[:, None] * counts
    residuals[np.abs(residuals) < 1e-12 * np.abs(sums).max()] = 0.0  # rounding, where units are all alike
    return mean, np.sqrt((residuals**2).sum(1) * units / (units - 1)) / total


def quantile_intervals(
    values: np.ndarray, unit: np.ndarray, units: int, quantiles: Sequence[float], seed: int = 0
) -> list[tuple[float, float]]:
    """95% percentile bootstrap intervals of quantiles of all values, units drawn with replacement.

    Args:
        values: (N,).
        unit: (N,) which unit, a prompt, each belongs to.
        units: how many there are.
        quantiles: from 0 to 1.
        seed: of the drawing.
    """
    order = np.argsort(values)
    sorted_values, sorted_unit = values[order], unit[order]
    draws = int(np.clip(_WORK // max(1, len(values)), 100, 1000))
    rng = np.random.default_rng(seed)
    found = np.empty((draws, len(quantiles)))
    for draw in range(draws):
        times = np.bincount(rng.integers(0, units, units), minlength=units)
        reach = np.cumsum(times[sorted_unit])
        # The q-th of n values lies at index q (n - 1), as numpy has it; in between, the lower one is taken.
        places = np.searchsorted(reach, np.asarray(quantiles) * (reach[-1] - 1), side="right")
        found[draw] = sorted_values[np.minimum(places, len(values) - 1)]
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
