"""From points to a plan: jobs that are ready to run, and the groups that share one loaded model.

Nothing is loaded and no heavy library imported; every mistake of every point is found before any of them
runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.artifacts.artifact import Artifact
from harness.artifacts.inventory import Inventory
from harness.artifacts.job import Job
from harness.artifacts.registry import inventory, missing
from harness.config.labels import varied
from harness.config.point import Point
from harness.config.sweep_name import sweep_title
from harness.errors import ConfigError, Mistake
from harness.models.device import WorkerDevice, plan_for
from harness.once import Once
from harness.plan.checks import (
    expected_prompts,
    references_agree,
    sweep_mistakes,
    timings_agree,
    unused_answers,
)
from harness.plan.compared import with_full_names
from harness.plan.detectors import with_detectors
from harness.plan.prepare import prepare
from harness.plan.references import hints, with_drift_roles
from harness.plan.speculation_drafts import left_out
from harness.store.files import outputs_folder
from harness.store.sweeps import Sweep, SweepPoint, sweep_id_of


@dataclass(frozen=True)
class Group:
    """Jobs that share one loaded model, or one server.

    Attributes:
        name: model and quantization, and the backend but for `hf`.
        jobs: indices into the plan's jobs.
        after: indices of the groups that must be complete before it, since their results are compared with.
    """

    name: str
    jobs: tuple[int, ...]
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The jobs of one command, in its order, and the groups they are run in.

    Attributes:
        name: of the sweep.
        outputs: folder of the store.
        jobs: one a point.
        groups: references first; a group depends on earlier ones only.
        hints: lines of advice.
    """

    name: str
    outputs: Path
    jobs: tuple[Job, ...]
    groups: tuple[Group, ...]
    hints: tuple[str, ...] = ()

    @property
    def sweep_id(self) -> str:
        """The sweep's address."""
        return sweep_id_of(job.point_id for job in self.jobs)

    @property
    def title(self) -> str:
        """The sweep's name as people see it."""
        return sweep_title([job.point for job in self.jobs], self.name)

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.outputs / "sweeps" / f"{self.name}-{self.sweep_id}"

    @cached_property
    def missing(self) -> tuple[tuple[Artifact, ...], ...]:
        """What the store lacks of each job, as it is when this is first asked."""
        return tuple(missing(job, self.outputs, self.held) for job in self.jobs)

    @cached_property
    def held(self) -> Inventory:
        """What the store holds, as it is when this is first asked; large files are not read for it."""
        return inventory(self.outputs)

    def sweep(self) -> Sweep:
        """Return the initial record of the sweep: every point is `planned`."""
        points = [job.point for job in self.jobs]
        first = points[0]
        return Sweep(
            name=self.name,
            title=self.title,
            sweep_id=self.sweep_id,
            folder=self.folder,
            tracking=first.tracking.model_dump(mode="json"),
            points=tuple(
                SweepPoint(
                    label=job.point.label,
                    point_id=job.point_id,
                    model=job.point.model.name,
                    quantization=job.point.quantization.name,
                    prompts=job.point.prompts.name,
                    decoding=job.point.decoding.name,
                    varied=values,
                    warnings=job.warnings,
                )
                for job, values in zip(self.jobs, varied(points), strict=True)
            ),
            started=time.time(),
            compare=first.compare.model_dump(mode="json"),
            expect=tuple(one.model_dump(mode="json", exclude_none=True) for one in first.expect),
        )


def make_plan(points: Sequence[Point], name: str, device: WorkerDevice | None = None) -> Plan:
    """Prepare every point.

    Args:
        points: of one command.
        name: of the sweep.
        device: of the workers that run them on other machines; None for this machine's.

    Raises:
        ConfigError: with every mistake found in any of them.
    """
    jobs = with_detectors(with_drift_roles(_jobs(points, device)))
    groups = _groups(jobs)
    if len(jobs) > 1 and points[0].compare.noise:
        for group in groups:
            index = _noise_floor_job(jobs, group)
            jobs[index] = replace(jobs[index], measures_noise=True)
    notes = dict.fromkeys(note for point in points for note in point.notes)
    return Plan(name, outputs_folder(), tuple(jobs), groups, (*notes, *left_out(jobs), *hints(jobs)))


def _jobs(points: Sequence[Point], device: WorkerDevice | None) -> list[Job]:
    once = Once()
    plan_for(device, once)
    jobs: list[Job] = []
    points, wrong = _with_full_names(points)
    mistakes: dict[Mistake, list[str]] = {}
    for point in points:
        try:
            jobs.append(prepare(point, once))
        except ConfigError as error:
            for mistake in error.mistakes:
                mistakes.setdefault(mistake, []).append(point.label)
    for mistake in (*sweep_mistakes(points), *wrong):
        mistakes[mistake] = [point.label for point in points]
    if mistakes:
        raise ConfigError(
            # Which points a mistake concerns is told only where it does not concern all.
            mistake if len(labels) == len(points) else Mistake(mistake.key, mistake.message, tuple(labels))
            for mistake, labels in mistakes.items()
        )
    wrong_together = timings_agree(jobs) or references_agree(jobs)
    if disagreements := wrong_together or [*expected_prompts(jobs), *unused_answers(jobs)]:
        raise ConfigError(disagreements)
    return jobs


def _with_full_names(points: Sequence[Point]) -> tuple[Sequence[Point], Sequence[Mistake]]:
    try:
        return with_full_names(points), ()
    except ConfigError as error:
        return points, error.mistakes


def _groups(jobs: Sequence[Job]) -> tuple[Group, ...]:
    """Return the groups, those that hold references first."""
    found: dict[Any, list[int]] = {}
    for index in sorted(range(len(jobs)), key=lambda index: not jobs[index].drift.dependents):
        point = jobs[index].point
        found.setdefault(_shared(point), []).append(index)
    home = {jobs[index].point_id: number for number, some in enumerate(found.values()) for index in some}
    groups = []
    for number, some in enumerate(found.values()):
        first = jobs[some[0]].point
        references = {jobs[index].drift.reference for index in some} - {None}
        after = {home[reference] for reference in references if reference is not None}
        before = tuple(sorted(group for group in after if group < number))
        beside = "" if first.backend.kind == "hf" else f" {first.backend.name}"
        name = f"{first.model.name} {first.quantization.name}{beside}"
        groups.append(Group(name, tuple(sorted(some)), before))
    return tuple(groups)


def _shared(point: Point) -> Any:
    """Return what the points of a group share: one loaded model, or one server."""
    return point.model, point.quantization, point.backend.model_dump_json()


def _noise_floor_job(jobs: Sequence[Job], group: Group) -> int:
    """Return the job of a group whose strategy is run again: the first that shares batches with others."""
    shared = (index for index in group.jobs if jobs[index].target.shares_batches(jobs[index].effective))
    return next(shared, group.jobs[0])
