"""The results of a sweep's points, read from the store: the input of every report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.analysis.latency import tail_is_known
from harness.analysis.metric_catalog import Metric, metrics_from_json
from harness.analysis.preferences import WIN_RATE, preferences
from harness.store.feedback import feedback_means, known_feedback
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.sweeps import Sweep, SweepPoint
from harness.store.votes import known_votes

CHOICES = ("model", "quantization", "prompts", "decoding")
"""The choices that a point is composed of, as attributes of a SweepPoint."""

COMPLETED = ("done", "reused")
"""Statuses of a point whose folder is complete."""


@dataclass(frozen=True)
class PointResult:
    """The results of one point of a sweep.

    Attributes:
        point: its entry in the sweep.
        stored: its folder; None when it has no generations (failed, not run yet, deleted).
        metrics: finite numbers by `section/name`; `feedback/` has the means of numeric feedback, and
            `preference/` how often its outputs were found better in blind comparisons.
        intervals: low and high of some of them.
        custom_metrics: the entries of the custom metrics among them, by key.
        finishes: number of samples by finish reason; None where that is not known.
        prompt_ids: the prompts, in order.
        selected_from: of a row that holds chosen samples, how many per prompt they were chosen from; else 0.
        selected_of: of such a row, the label of the run whose samples they are.
    """

    point: SweepPoint
    stored: StoredPoint | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    custom_metrics: Mapping[str, Metric] = field(default_factory=dict)
    finishes: Mapping[str | None, int] = field(default_factory=dict)
    prompt_ids: tuple[str, ...] = ()
    selected_from: int = 0
    selected_of: str = ""


def stored_of(sweep: Sweep, point: SweepPoint) -> StoredPoint | None:
    """Return the folder of a sweep's point; None when it is not complete, or damaged."""
    if not point.point_id or point.status not in COMPLETED:
        return None
    stored = stored_point(sweep.folder.parent.parent, point.point_id)
    return stored if stored.has("generations.parquet") and not stored.damage() else None


def damage_of(sweep: Sweep, point: SweepPoint) -> str | None:
    """Return in one line which file of a completed point is damaged, and the cure; None where none is."""
    if not point.point_id or point.status not in COMPLETED:
        return None
    found = stored_point(sweep.folder.parent.parent, point.point_id).damage()
    return found and f"{found}; run the sweep again to make it anew"


def point_results(sweep: Sweep) -> list[PointResult]:
    """Return the results of every point of the sweep, in order; a damaged point counts as failed."""
    means = feedback_means(known_feedback(sweep.folder))
    preferred = {p.label: p for p in preferences(known_votes(sweep.folder))}
    results = []
    for point in sweep.points:
        stored = stored_of(sweep, point)
        if stored:
            result = point_result(point, stored, means.get(point.label, {}))
            if preference := preferred.get(point.label):
                result = replace(
                    result,
                    metrics={**result.metrics, WIN_RATE: preference.rate},
                    intervals={**result.intervals, WIN_RATE: preference.interval},
                )
            results.append(result)
            continue
        damage = damage_of(sweep, point)
        shown = replace(point, status="failed", error=damage) if damage else point
        results.append(PointResult(shown, None))
    return results


def point_result(
    point: SweepPoint, stored: StoredPoint, feedback: Mapping[str, float] | None = None
) -> PointResult:
    """Return the results of a point whose folder is known, with the means of its feedback."""
    known = stored.metrics() if stored.has("metrics.json") else {}
    generations = stored.columns("generations", ["finish_reason", "prompt_id"])
    metrics = finite_numbers(known.get("metrics", {}))
    for key in _unknown_tails(stored) & metrics.keys():
        del metrics[key]
    return PointResult(
        point,
        stored,
        metrics={**metrics, **(feedback or {})},
        intervals={
            key: (float(low), float(high))
            for key, (low, high) in known.get("intervals", {}).items()
            if key in metrics
        },
        custom_metrics=metrics_from_json(known),
        finishes=Counter(generations["finish_reason"]),
        prompt_ids=tuple(dict.fromkeys(generations["prompt_id"])),
    )


def _unknown_tails(stored: StoredPoint) -> set[str]:
    """Return the 95th percentiles of latencies that a point was too seldom timed for.

    Points that were stored before this was asked have them in their metrics.json.
    """
    if not stored.has("timing.parquet"):
        return set()
    columns = stored.columns("timing", ["ttft_ms", "itl_ms"])
    counts = {
        "ttft": sum(value is not None for value in columns["ttft_ms"]),
        "itl": sum(len(values or ()) for values in columns["itl_ms"]),
        "total": len(columns["ttft_ms"]),
    }
    return {f"latency/{name}_p95_ms" for name, count in counts.items() if not tail_is_known(count)}


def finite_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are finite numbers."""
    numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
    return {key: value for key, value in numbers.items() if math.isfinite(value)}
