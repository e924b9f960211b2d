"""The Pareto front of a sweep: in which metrics, and which points are on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.comparison import Front
from harness.analysis.goal import goal_of
from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.analysis.statistics.pareto import pareto_front
from harness.store.sweeps import Sweep

ITL, TOTAL = "latency/itl_p50_ms", "latency/total_p50_ms"
"""The costs: time per token; where a timed point has none, as beams do not stream, of a whole request."""


def front_of(
    sweep: Sweep, completed: Sequence[PointResult], metrics: Sequence[Metric], notes: list[str]
) -> Front | None:
    """Return the front in those of the wanted metrics that were measured; None of fewer than two.

    Wanted are those of `compare.pareto`; where that is the default and the sweep has a goal, the goal and its
    cost in time. A metric that was asked for and not measured is noted.
    """
    from harness.config.point import Compare

    default = Compare().pareto
    wanted = tuple(sweep.compare.get("pareto") or default)
    goal, _ = goal_of(sweep, metrics)
    if wanted == default and goal is not None and (cost := _cost(completed)) != goal.key:
        wanted = (cost, goal.key)
    by_key = {metric.key: metric for metric in metrics}
    measured = [key for key in dict.fromkeys(wanted) if key in by_key]
    if len(measured) < 2:
        return None
    if missing := [key for key in wanted if key not in measured]:
        notes.append(f"compare.pareto: no run has {', '.join(missing)}; the front is computed without")
    compared = [p for p in completed if all(key in p.metrics for key in measured)]
    if not compared:
        return None
    values = np.array([[p.metrics[key] for key in measured] for p in compared])
    on_front = pareto_front(values, [by_key[key].better != "lower" for key in measured])
    labels = [p.point.label for p in compared]
    return Front(
        metrics=tuple(measured),
        labels=tuple(label for label, on in zip(labels, on_front, strict=True) if on),
        compared=tuple(labels),
    )


def _cost(completed: Sequence[PointResult]) -> str:
    """Return the cost that every timed point has."""
    timed = [p.metrics for p in completed if TOTAL in p.metrics or ITL in p.metrics]
    return ITL if all(ITL in metrics for metrics in timed) else TOTAL
