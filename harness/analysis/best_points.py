"""The best points in a metric, and which are significantly worse: simultaneous over all pairs of points.

Whichever point turns out best, its differences from the others are among the pairs, so that choosing it after
the fact is paid for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.analysis.comparison import Difference
from harness.analysis.metric_catalog import Metric
from harness.analysis.prompt_values import PromptValues
from harness.analysis.statistics.sample_size import critical_t
from harness.analysis.statistics.simultaneous import LEVEL, Simultaneous, simultaneous_intervals
from harness.analysis.swept import BestSet

MOST_POINTS = 32
"""Of more points, the best is compared with each by Student's t, corrected by Šidák for all pairs."""


def best_sets(values: PromptValues, metrics: Sequence[Metric], binary: set[str]) -> dict[str, BestSet]:
    """Return the best points of each metric that has samples and a better direction, by key."""
    found = {}
    for metric in metrics:
        if metric.better and metric.per_sample in values.means:
            best = best_set(values, metric, list(values.row_of), metric.key in binary)
            if best:
                found[metric.key] = best
    return found


def best_set(values: PromptValues, metric: Metric, labels: Sequence[str], shares: bool) -> BestSet | None:
    """Return the best of these points, compared over the prompts that all have; None of fewer than two.

    `shares` is whether the metric's samples are 0 or 1.
    """
    means = values.of(str(metric.per_sample), labels)
    have = np.isfinite(means).any(axis=1)
    labels = [label for label, has in zip(labels, have, strict=True) if has]
    means = means[have]
    common = means[:, np.isfinite(means).all(axis=0)]
    if len(labels) < 2 or not common.shape[1]:
        return None
    gains = common if metric.better == "higher" else -common
    totals = gains.mean(axis=1)
    order = np.argsort(-totals, kind="stable")
    best = int(order[0])
    ahead = _ahead(gains, best, shares)
    others = [int(i) for i in order[1:]]
    worse = {i for i in others if ahead.p[i] < LEVEL and ahead.mean[i] > 0}
    return BestSet(
        label=labels[best],
        ties=tuple(labels[i] for i in others if i not in worse),
        worse=tuple(labels[i] for i in others if i in worse),
        ahead={labels[i]: _interval(ahead, i) for i in others},
        values=dict(zip(labels, common.mean(axis=1).tolist(), strict=True)),
        prompts=common.shape[1],
        deviations={labels[i]: float(ahead.deviation[i]) for i in others if np.isfinite(ahead.deviation[i])},
        comparisons=len(labels) * (len(labels) - 1) // 2,
    )


def with_baseline(
    best: Mapping[str, BestSet], baseline: str, differences: Mapping[tuple[str, str], Difference]
) -> dict[str, BestSet]:
    """Return the best sets with what the comparison with the baseline alone shows, which has fewer pairs.

    A point that is significantly worse than the baseline is so where the baseline is best; and where the best
    point is significantly better than the baseline, the baseline is worse.
    """
    found = {}
    for key, one in best.items():
        moved = {}
        for label in one.ties if one.label == baseline else (one.label,):
            d = differences.get((label, key))
            other = label if one.label == baseline else baseline
            if d and d.verdict == ("worse" if one.label == baseline else "better") and other in one.ties:
                moved[other] = _gain(d)
        found[key] = replace(
            one,
            ties=tuple(label for label in one.ties if label not in moved),
            worse=tuple(label for label in one.ahead if label in moved or label in one.worse),
            ahead={**one.ahead, **moved},
            by_baseline=tuple(moved),
        )
    return found


def _gain(d: Difference) -> tuple[float, float | None, float | None]:
    """Return a difference as by how much one side is better: a positive number."""
    if d.low is None or d.high is None:
        return abs(d.mean), None, None
    return (-d.mean, -d.high, -d.low) if d.mean < 0 else (d.mean, d.low, d.high)


def _interval(found: Simultaneous, index: int) -> tuple[float, float | None, float | None]:
    low, high = (float(side[index]) for side in (found.low, found.high))
    return float(found.mean[index]), *((low, high) if np.isfinite(low) else (None, None))


def _ahead(gains: np.ndarray, best: int, shares: bool) -> Simultaneous:
    """Return the best row minus each row (P, n), simultaneous over all pairs of rows."""
    rows, prompts = gains.shape
    if rows > MOST_POINTS:
        return _corrected(gains[best] - gains, shares)
    first, second = np.triu_indices(rows, 1)
    pairs = simultaneous_intervals(gains[first] - gains[second], shares)
    index: Mapping[tuple[int, int], int] = {
        (int(a), int(b)): i for i, (a, b) in enumerate(zip(first, second, strict=True))
    }
    mean, deviation, low, high, p = np.full((5, rows), np.nan)
    for row in range(rows):
        if row == best:
            continue
        i = index[min(row, best), max(row, best)]
        bounds = (pairs.low[i], pairs.high[i])
        mean[row], (low[row], high[row]) = pairs.mean[i], bounds
        if best > row:
            mean[row], low[row], high[row] = -pairs.mean[i], -bounds[1], -bounds[0]
        deviation[row], p[row] = pairs.deviation[i], pairs.p[i]
    return Simultaneous(mean, deviation, low, high, p, np.full(rows, prompts))


def _corrected(differences: np.ndarray, shares: bool) -> Simultaneous:
    """Return Student's intervals of (P, n) differences, one row of which is 0, corrected for all pairs.

    No p is below that of the sign flips of as many prompts, so that a few prompts that happen to differ alike
    are no proof; differences of shares have the pseudo-prompts of Bonett and Price.
    """
    from scipy.special import stdtr

    rows, prompts = differences.shape
    comparisons = rows * (rows - 1) // 2
    mean = differences.mean(axis=1)
    if prompts < 2:
        nothing = np.full(rows, np.nan)
        return Simultaneous(mean, nothing, nothing, nothing, nothing, np.full(rows, prompts))
    deviation = differences.std(axis=1, ddof=1)
    padding = np.repeat([[1.0, -1.0]], rows, axis=0) if shares else np.empty((rows, 0))
    padded = np.concatenate([differences, padding], axis=1)
    size = padded.shape[1]
    centre, error = padded.mean(axis=1), padded.std(axis=1, ddof=1) / size**0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        single = 2 * stdtr(size - 1, -np.abs(np.nan_to_num(centre / error, nan=0.0)))
    single = np.where(mean == 0, 1.0, np.maximum(single, 2.0 ** (1 - prompts)))
    p = -np.expm1(comparisons * np.log1p(-np.minimum(single, 1 - 1e-16)))
    reach = critical_t(size, comparisons) * error
    low, high = np.minimum(centre - reach, mean), np.maximum(centre + reach, mean)
    chance = p >= LEVEL
    low[chance], high[chance] = np.minimum(low[chance], 0.0), np.maximum(high[chance], 0.0)
    return Simultaneous(mean, deviation, low, high, p, np.full(rows, prompts))
