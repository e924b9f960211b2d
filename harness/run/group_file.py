"""A group of a plan, written to a file, so that another process can run it.

The file holds the sweep's points as they were requested, not what was prepared of them: the other process
prepares them again and must come to the same addresses. So it holds no code and no pickle, and what changed
between the plan and the run (a prompt file, a package) is noticed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.config.point import Point, Tracking
from harness.errors import ConfigError
from harness.plan.plan import Group, Plan, make_plan
from harness.store.files import read_json, write_text


def write_group(plan: Plan, group: Group, path: Path) -> None:
    """Write a group of a plan; relative paths in its config are meant from the present working folder.

    Without its tracking, which is done by whoever planned it, and may hold secrets.
    """
    untracked = {"tracking": Tracking(name="off", enabled=False)}
    facts = {
        "name": plan.name,
        "outputs": str(plan.outputs),
        "folder": os.getcwd(),
        "group": plan.groups.index(group),
        "points": [job.point.model_copy(update=untracked).model_dump(mode="json") for job in plan.jobs],
        "point_ids": [job.point_id for job in plan.jobs],
    }
    write_text(path, json.dumps(facts, indent=1) + "\n")


def read_group(path: Path) -> tuple[Plan, Group]:
    """Prepare the plan of a written group again, in its folder and for its store.

    Raises:
        ConfigError: the file cannot be read, or its points come to other addresses here.
    """
    facts = read_json(path)
    if not isinstance(facts, dict) or "point_ids" not in facts:
        raise ConfigError.of(
            str(path), "not a group of a plan; executors write such files for `harness run-group`"
        )
    os.chdir(facts["folder"])
    os.environ["HARNESS_OUTPUTS"] = facts["outputs"]
    points = [Point.model_validate_json(json.dumps(point)) for point in facts["points"]]
    plan = make_plan(points, facts["name"])
    changed = [
        job.point.label
        for job, point_id in zip(plan.jobs, facts["point_ids"], strict=True)
        if job.point_id != point_id
    ]
    if changed:
        raise ConfigError.of(
            str(path),
            f"{', '.join(changed[:3])}: samples would differ from the plan's (prompts, weights or library "
            "versions are others here); run the sweep again to plan anew",
        )
    return plan, plan.groups[facts["group"]]
