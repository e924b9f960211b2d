"""A point's place in a sweep beside what the store holds of it: what every report starts from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.metric_catalog import Metric, metrics_from_json
from harness.store.feedback import feedback_means, known_feedback
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint

CHOICES = ("model", "quantization", "prompts", "decoding")
"""What a point is composed of, as attributes of a SweepPoint."""

KEPT = ("done", "reused")
"""Statuses of a point whose folder is whole."""


@dataclass(frozen=True)
class PointResult:
    """One point of a sweep as it is reported.

    Attributes:
        point: its place in the sweep.
        stored: its folder; None when it holds no generations (failed, not run yet, deleted).
        metrics: finite numbers by `section/name`; `feedback/` holds means of what people said in numbers.
        intervals: low and high of some of them.
        own: what is known of metrics of one's own among them, by key.
        finishes: how many of its samples ended for each reason; None where that is not known.
        prompt_ids: in the order of the point.
    """

    point: SweepPoint
    stored: StoredPoint | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    own: Mapping[str, Metric] = field(default_factory=dict)
    finishes: Mapping[str | None, int] = field(default_factory=dict)
    prompt_ids: tuple[str, ...] = ()


def stored_of(sweep: Sweep, point: SweepPoint) -> StoredPoint | None:
    """The folder of a point, in the outputs that the sweep lies in; None when it is not whole."""
    if not point.point_id or point.status not in KEPT:
        return None
    stored = StoredPoint(sweep.folder.parent.parent / "points" / point.point_id)
    return stored if stored.has("generations.parquet") else None


def point_results(sweep: Sweep) -> list[PointResult]:
    """Every point of the sweep, in its order."""
    means = feedback_means(known_feedback(sweep.folder))
    return [_reported(sweep, point, means.get(point.label, {})) for point in sweep.points]


def _reported(sweep: Sweep, point: SweepPoint, feedback: Mapping[str, float]) -> PointResult:
    stored = stored_of(sweep, point)
    return point_result(point, stored, feedback) if stored else PointResult(point, None)


def point_result(
    point: SweepPoint, stored: StoredPoint, feedback: Mapping[str, float] | None = None
) -> PointResult:
    """A point whose folder is known, with the means of what people said of its texts."""
    known = stored.metrics() if stored.has("metrics.json") else {}
    generations = stored.columns("generations", ["finish_reason", "prompt_id"])
    return PointResult(
        point,
        stored,
        metrics={**finite(known.get("metrics", {})), **(feedback or {})},
        intervals={
            key: (float(low), float(high))
            for key, (low, high) in known.get("intervals", {}).items()
            if _is_finite(low) and _is_finite(high)
        },
        own=metrics_from_json(known),
        finishes=Counter(generations["finish_reason"]),
        prompt_ids=tuple(dict.fromkeys(generations["prompt_id"])),
    )


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among these that are finite."""
    return {key: float(value) for key, value in values.items() if _is_finite(value)}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
