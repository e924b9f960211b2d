"""How many workers share a group: what is asked for, or as many as are idle where it takes long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from harness.artifacts.samples import Samples
from harness.plan.plan import Group, Plan
from harness.store.files import read_json
from harness.store.stored_point import stored_point

LARGE_S = 20 * 60
"""A group that decodes for longer is shared where workers are idle."""
LEAST_S = 5 * 60
"""But no worker joins it for less than this."""

_RECENT = 50
"""Sweeps that are looked at for how fast a model decodes."""


def can_be_shared(plan: Plan, group: Group) -> bool:
    """Return whether workers can share a group: with the same samples, and none decoded anew each time."""
    jobs = [plan.jobs[index] for index in group.jobs]
    return all(job.target.same_batch_same_bits and not job.point.engine.fresh for job in jobs)


def shards_of(plan: Plan, group: Group, places: int) -> int:
    """Return how many workers may share a group: 1 where it is not shared.

    Args:
        plan: the group's.
        group: that is shared.
        places: how many workers can run side by side.
    """
    asked = plan.jobs[group.jobs[0]].point.engine.shards
    if places < 2 or not _tokens(plan, group) or not can_be_shared(plan, group):
        return 1
    if asked != "auto":
        return min(asked, places)
    seconds = seconds_to_decode(plan, group)
    if seconds is None or seconds <= LARGE_S:
        return 1
    return min(places, ceil(seconds / LEAST_S))


def seconds_to_decode(plan: Plan, group: Group) -> float | None:
    """Estimate how long one worker decodes what a group lacks; None where its model never decoded."""
    speed = _last_speed(plan, group)
    return _tokens(plan, group) / speed if speed else None


def _tokens(plan: Plan, group: Group) -> int:
    """Return the tokens that a group lacks, at most."""
    return sum(
        plan.jobs[index].tokens
        for index in group.jobs
        if any(isinstance(artifact, Samples) for artifact in plan.missing[index])
    )


def _last_speed(plan: Plan, group: Group) -> float | None:
    """Return tokens per second of the last point of the same model and quantization; None without one."""
    point = plan.jobs[group.jobs[0]].point
    for stored in _points_like(plan.outputs, point.model.name, point.quantization.name):
        facts = stored_point(plan.outputs, stored).parts().get("facts") or {}
        tokens, seconds = facts.get("tokens"), facts.get("decode_seconds")
        if tokens and seconds:
            return float(tokens / seconds)
    return None


def _points_like(outputs: Path, model: str, quantization: str) -> Iterator[str]:
    """Yield points of a model and a quantization, those of the last sweeps first."""
    plans = sorted(
        (outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for path in islice(plans, _RECENT):
        facts: Any = read_json(path)
        points = facts.get("points") if isinstance(facts, dict) else None
        for one in points or ():
            if (one.get("model"), one.get("quantization")) == (model, quantization) and one.get("point_id"):
                yield one["point_id"]
