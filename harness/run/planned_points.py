"""The points of a planned sweep, written into its folder, so that workers can run its groups.

The file holds the points as they were requested, not what was prepared of them: a worker prepares them again
and must come to the same addresses. So it holds no code and no pickle, and what changed between the plan and
the run (a prompt file, a package), or is otherwise on the worker's machine, is noticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.artifacts.batch_team import Share
from harness.artifacts.job import families
from harness.config.point import Point, Tracking
from harness.errors import ConfigError
from harness.models.describe import versions
from harness.plan.plan import Plan, make_plan
from harness.store.files import outputs_folder, read_json, write_text
from harness.store.stored_point import stored_point

FILE = "points.json"


def write_points(plan: Plan) -> None:
    """Write the points of a plan into its sweep's folder; relative paths are meant from the working folder.

    Without their tracking, which is done by whoever planned them, and may hold secrets. What failed in an
    earlier run is tried again.
    """
    from harness.store.partial import Partial

    for job, lacking in zip(plan.jobs, plan.missing, strict=True):
        if lacking:
            Partial(stored_point(plan.outputs, job.point_id)).forget_failure()
    untracked = {"tracking": Tracking(name="off", enabled=False)}
    facts = {
        "name": plan.name,
        "outputs": str(plan.outputs),
        "folder": os.getcwd(),
        "versions": versions(),
        "devices": _kinds(plan),
        "points": [job.point.model_copy(update=untracked).model_dump(mode="json") for job in plan.jobs],
        "point_ids": [job.point_id for job in plan.jobs],
    }
    write_text(plan.folder / FILE, json.dumps(facts) + "\n")


def share_of(plan: Plan, number: int, worker: int, workers: int) -> Share:
    """Return a worker's share of a group."""
    jobs = plan.groups[number].jobs
    found = families([plan.jobs[index] for index in jobs])
    numbers = {jobs[member]: family for family, members in enumerate(found) for member in members}
    return Share(f"{plan.sweep_id}.{number}", numbers, worker, workers)


def read_plan(sweep: str) -> Plan:
    """Prepare the plan of a written sweep again, in its working folder and for its store.

    Args:
        sweep: its folder, or the folder's name in the store.

    Raises:
        ConfigError: there is no such sweep, or its points come to other addresses here.
    """
    folder = next((one for one in (Path(sweep), outputs_folder() / "sweeps" / sweep) if one.is_dir()), None)
    facts = None if folder is None else read_json(folder.resolve() / FILE)
    if not isinstance(facts, dict) or "point_ids" not in facts:
        cure = "a run with a launcher plans one, as with hydra/launcher=local_gpus"
        raise ConfigError.of(sweep, f"no folder of a sweep that is planned for workers ({FILE}); {cure}")
    try:
        os.chdir(facts["folder"])
    except OSError as error:
        cure = "run the sweep from a folder that all machines share"
        raise ConfigError.of(sweep, f"its folder {facts['folder']} is not on this machine; {cure}") from error
    os.environ["HARNESS_OUTPUTS"] = facts["outputs"]
    plan = make_plan(
        [Point.model_validate_json(json.dumps(point)) for point in facts["points"]], facts["name"]
    )
    changed = [
        job.point.label
        for job, point_id in zip(plan.jobs, facts["point_ids"], strict=True)
        if job.point_id != point_id
    ]
    if changed:
        named = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise ConfigError.of(
            sweep, f"samples of {named} would differ from the plan's: {_difference(plan, facts)}"
        )
    return plan


def _kinds(plan: Plan) -> list[str]:
    """Return the kinds of devices that a plan's points run on: `cuda`, `cpu`."""
    return sorted({job.target.device.partition(":")[0] for job in plan.jobs})


def _difference(plan: Plan, facts: Mapping[str, Any]) -> str:
    """Return why points have other addresses here, and the cure."""
    if (here := _kinds(plan)) != facts["devices"]:
        planned = ", ".join(facts["devices"])
        return f"planned for {planned}, this worker has {', '.join(here)}; run it where there is {planned}"
    before = facts["versions"]
    other = [
        f"{name} {now or 'missing'} (planned with {before.get(name) or 'none'})"
        for name, now in versions().items()
        if before.get(name) != now
    ]
    if other:
        return f"here is {', '.join(other[:4])}; use one environment for all"
    return "prompts or weights are others than when it was planned; run the sweep again to plan anew"
