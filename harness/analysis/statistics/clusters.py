"""Confidence intervals of statistics over tokens (or samples), which are correlated within a prompt.

What is resampled is therefore a prompt with all its tokens: a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.statistics.bootstrap import mean_intervals, stack_rows

LEAST_CLUSTERS = 4
"""Fewer prompts have no interval."""

_WORK = 20_000_000  # numbers that the resampling of quantiles reads


def ratio_residuals(
    values: np.ndarray, cluster: np.ndarray, clusters: int, weights: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the weighted mean of all values, and each cluster's contribution to its error.

    The mean is a ratio of two sums over clusters; the interval of the mean of these residuals is, to first
    order, that of the ratio around its value (Cochran 1977, Sampling Techniques, 6.3).

    Args:
        values, cluster: (N,) the values, and the index of the cluster of each.
        clusters: number of clusters.
        weights: (N,) of the values; equal when None.

    Returns:
        The mean, and (C,) residuals of mean 0 of the C clusters with any weight; NaN and none without any.
    """
    weights = np.ones(len(values)) if weights is None else weights
    total = float(weights.sum())
    if not total > 0:
        return float("nan"), np.empty(0)
    mean = float(values @ weights) / total
    deviations = np.bincount(cluster, weights * (values - mean), clusters)
    present = np.bincount(cluster, weights, clusters) > 0
    return mean, deviations[present] * present.sum() / total


def residual_intervals(
    means: Sequence[tuple[float, np.ndarray, tuple[float, float]]],
) -> list[tuple[float, float] | None]:
    """Return the 95% interval of each mean, given with its residuals and its least and greatest value.

    None where there are fewer than two residuals.
    """
    found = mean_intervals(stack_rows([residuals for _, residuals, _ in means]))
    return [
        (max(least, mean + float(low)), min(most, mean + float(high))) if np.isfinite(low) else None
        for (mean, _, (least, most)), low, high in zip(means, found.low, found.high, strict=True)
    ]


def quantile_intervals(
    values: np.ndarray, cluster: np.ndarray, clusters: int, quantiles: Sequence[float]
) -> list[tuple[float, float]]:
    """Return 95% percentile bootstrap intervals of quantiles of all values, clusters drawn with replacement.

    The (N,) values and clusters are those of `ratio_residuals`.
    """
    order = np.argsort(values)
    sorted_values, sorted_cluster = values[order], cluster[order]
    draws = int(np.clip(_WORK // max(1, len(values)), 100, 1000))
    rng = np.random.default_rng(0)
    found = np.empty((draws, len(quantiles)))
    for draw in range(draws):
        times = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
        reach = np.cumsum(times[sorted_cluster])
        # The q-quantile of n values is at index q (n - 1), as in NumPy; in between, the lower one is taken.
        indices = np.searchsorted(reach, np.asarray(quantiles) * (reach[-1] - 1), side="right")
        found[draw] = sorted_values[np.minimum(indices, len(values) - 1)]
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
