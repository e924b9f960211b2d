"""Which metrics a reader wants to see first, and which points are the best in one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.comparison import Comparison
from harness.analysis.metric_catalog import HEADLINES, Metric, metric_of
from harness.analysis.point_results import PointResult

REFERENCE_METRICS = ("reference/answer_match", "reference/chrf", "reference/exact_match")
"""Shown before the headlines where outputs have references."""


OF_A_BATCH = ("memory/peak_mb", "throughput/sweep_tokens_per_s")
"""What is measured of all runs that were decoded together, and says nothing of one of them."""


def key_metrics(points: Sequence[PointResult], goal: str | None = None) -> tuple[Metric, ...]:
    """Return the metrics to show, of those measured: the goal, those of references, the headlines.

    What is measured of a batch is none of them where runs shared one, and so have the very same value.
    """
    if goal in OF_A_BATCH:
        values = [p.metrics[goal] for p in points if goal in p.metrics]
        goal = goal if len(set(values)) == len(values) else None
    custom = {key: metric for p in points for key, metric in p.custom_metrics.items()}
    known = {key for p in points for key in p.metrics}
    wanted = [*([goal] if goal else []), *REFERENCE_METRICS, *(metric.key for metric in HEADLINES)]
    return tuple(metric_of(key, custom) for key in dict.fromkeys(wanted) if key in known)


def best_points(
    metric: Metric, points: Sequence[PointResult], comparison: Comparison | None = None
) -> frozenset[str]:
    """Return the labels of the best points in a metric; empty where none stands out.

    Where the comparison has a best set, the best point and those that are not significantly worse, if any
    other is; else those with the extreme value as it is shown. A metric without a better direction has none.
    """
    if metric.better is None:
        return frozenset()
    if comparison and (found := comparison.best.get(metric.key)):
        return frozenset((found.label, *found.ties)) if found.worse else frozenset()
    values = {p.point.label: p.metrics[metric.key] for p in points if metric.key in p.metrics}
    return extreme(metric, values)


def extreme(metric: Metric, values: Mapping[str, float]) -> frozenset[str]:
    """Return the labels with the best value as it is shown; empty when all look alike."""
    shown = {label: round(value, metric.decimals) for label, value in values.items()}
    if len(set(shown.values())) < 2:
        return frozenset()
    best = max(shown.values()) if metric.better == "higher" else min(shown.values())
    return frozenset(label for label, value in shown.items() if value == best)
