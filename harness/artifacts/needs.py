"""What is asked of a point and not in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.analysis.metrics import RequestedMetrics
from harness.config.point import Point
from harness.store.stored_point import StoredPoint


@dataclass(frozen=True)
class Needs:
    """What a stored point still lacks of what is asked."""

    samples: bool
    prompt_scores: bool
    timing: bool
    description: bool
    metrics: bool
    noise: bool = False
    drift: bool = False
    distributions: bool = False

    @property
    def model(self) -> bool:
        """Whether the model must be loaded for it: metrics come from the tables."""
        described = self.prompt_scores or self.timing or self.description
        return self.samples or described or self.noise or self.drift or self.distributions

    def __bool__(self) -> bool:
        return self.model or self.metrics


def what_is_needed(point: Point, metrics: RequestedMetrics, stored: StoredPoint) -> Needs:
    """What is asked of a point and not in the store."""
    parts = stored.parts()
    record = parts.get("record")
    fresh = point.engine.fresh
    samples = fresh or record is None or record["top_k"] < point.record.top_k
    timing = point.timing.enabled and (fresh or parts.get("timing") != timing_spec(point))
    return Needs(
        samples=samples,
        prompt_scores=point.record.prompt_logprobs and (fresh or not parts.get("prompt_logprobs")),
        timing=timing,
        description=samples or not parts.get("described"),
        metrics=samples or timing or parts.get("metrics") != metrics.spec(parts),
    )


def noise_spec(point: Point) -> dict[str, Any]:
    """What a stored noise floor must have been measured with."""
    return {"timing": timing_spec(point) if point.timing.enabled else None}


def timing_spec(point: Point) -> dict[str, Any]:
    """What a stored timing must equal to be taken for the one that is asked."""
    return point.timing.model_dump(mode="json", exclude={"name", "enabled"}) | {
        "threads": point.engine.threads
    }
