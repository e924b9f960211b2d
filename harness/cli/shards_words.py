"""What `harness plan` and `check` say of groups that several workers share."""

from __future__ import annotations

from harness.plan.plan import Group, Plan
from harness.run.shards import seconds_to_decode, shards_of
from harness.run.workers import Workers


def shards_line(plan: Plan, workers: Workers) -> str | None:
    """Return which groups are shared by how many workers; None where none is."""
    places = workers.places(plan)
    shared = {group.name: shards for group in plan.groups if (shards := shards_of(plan, group, places)) > 1}
    asked = plan.jobs[0].point.engine.shards
    if asked != "auto":
        if places < asked and shared:
            return f"{_shared(plan, shared)}; engine.shards={asked}, but there are {places} workers"
        if places < asked:
            return f"engine.shards={asked}: no group is shared, since there is one worker"
    return _shared(plan, shared) if shared else None


def _shared(plan: Plan, shared: dict[str, int]) -> str:
    counts = set(shared.values())
    if len(counts) == 1 and len(shared) == len(plan.groups) > 1:
        return f"each group is shared by up to {counts.pop()} workers, as they are idle"
    parts = [
        f"{group.name} by up to {shared[group.name]} workers{_takes(plan, group)}"
        for group in plan.groups
        if group.name in shared
    ]
    return f"shared: {', '.join(parts)}"


def _takes(plan: Plan, group: Group) -> str:
    seconds = seconds_to_decode(plan, group)
    return "" if seconds is None else f" (one would decode for about {seconds / 60:.0f} minutes)"
