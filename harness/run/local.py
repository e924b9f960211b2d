"""Run groups in this process, one after the other: each model is loaded once, and only if it is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from harness.artifacts.artifact import Artifact, Workbench
from harness.artifacts.job import Job, families
from harness.artifacts.registry import dependents, missing, outdate
from harness.backends.backend import Backend
from harness.errors import StoreError
from harness.plan.plan import Group, Plan
from harness.progress import Progress
from harness.run.executor import Outcome, failure
from harness.store.files import remove_unfinished
from harness.store.locks import lock


class LocalExecutor:
    """Runs every group in this process, in the plan's order, which has references first."""

    def run(self, plan: Plan, progress: Progress) -> Iterator[Outcome]:
        """Run the groups; yield each job's outcome once it is known."""
        for group in plan.groups:
            yield from run_group(plan, group, progress)


def run_group(plan: Plan, group: Group, progress: Progress) -> Iterator[Outcome]:
    """Make what the store lacks of each job of a group; yield their outcomes.

    What the plan found complete is not looked at again; all else is asked for once more under the lock, since
    another process may have made it meanwhile.

    Raises:
        StoreError: the store cannot be written any more.
    """
    jobs = {index: plan.jobs[index] for index in group.jobs}
    for index in jobs:
        if not plan.missing[index]:
            yield Outcome(index, "reused", time.time())
    waiting = [index for index in jobs if plan.missing[index]]
    model = _Model([jobs[index] for index in waiting], progress)
    bench = Workbench(plan.outputs, progress, model.open)
    try:
        for family in families([jobs[index] for index in waiting]):
            indices = [waiting[member] for member in family]
            names = {jobs[index].point_id for index in indices}
            with lock(plan.outputs, names, lambda: _tell_wait(progress)):
                yield from _run_family({index: jobs[index] for index in indices}, bench, model)
    finally:
        model.close()


def _tell_wait(progress: Progress) -> None:
    progress.message("another process is running these points; waiting for it")


class _Model:
    """The backend of a group, opened when it is first needed; opening it is tried once."""

    def __init__(self, jobs: Sequence[Job], progress: Progress) -> None:
        self._jobs = jobs
        self._progress = progress
        self._error: Exception | None = None
        self.backend: Backend | None = None
        self.opened: float | None = None

    def open(self) -> Backend:
        """Return the backend.

        Raises:
            Exception: what opening it raised, each time it is asked for.
        """
        if self._error is not None:
            raise self._error
        if self.backend is None:
            try:
                self.backend = self._jobs[0].target.open(self._progress)
            except Exception as error:
                self._error = error
                raise
            self.opened = time.time()
        return self.backend

    def close(self) -> None:
        """Free it."""
        if self.backend is not None:
            self.backend.close()


def _run_family(jobs: dict[int, Job], bench: Workbench, model: _Model) -> Iterator[Outcome]:
    """Make what the store lacks of jobs that decode together, whose locks are held."""
    started = time.time()
    lacking = {index: missing(job, bench.outputs) for index, job in jobs.items()}
    for index, job in jobs.items():
        remove_unfinished(bench.stored(job).folder)
        if lacking[index]:
            outdate(job, lacking[index], bench.stored(job))
    if any(artifact.needs_backend for some in lacking.values() for artifact in some):
        try:
            bench.backend.configure(next(iter(jobs.values())).point.engine)
        except Exception as error:
            for index in jobs:
                yield failure(index, error, time.time())
            return
        started = max(started, model.opened or 0.0) if model.opened else started
    failed = _make_together(jobs, lacking, bench)
    made: dict[str, set[str]] = {}
    # The deepest recording first, so that it speaks for all jobs of its address.
    for index in sorted(jobs, key=lambda index: -jobs[index].point.record.top_k):
        job, some = jobs[index], lacking[index]
        if index in failed:
            yield failure(index, failed[index], time.time(), started)
            continue
        try:
            notes = _make(job, some, bench, made.setdefault(job.point_id, set()))
        except StoreError:
            raise
        except Exception as error:
            yield failure(index, error, time.time(), started)
            continue
        ran = any(artifact.needs_backend for artifact in some)
        warnings = (*(model.backend.warnings if ran and model.backend else ()), *notes)
        yield Outcome(index, "done" if ran else "reused", time.time(), started if ran else None, warnings)


def _make_together(
    jobs: dict[int, Job], lacking: dict[int, tuple[Artifact, ...]], bench: Workbench
) -> dict[int, Exception]:
    """Make the artifacts that are made a family at a time; return the errors of the jobs that failed."""
    failed: dict[int, Exception] = {}
    shared = dict.fromkeys(artifact for some in lacking.values() for artifact in some if artifact.per_family)
    for artifact in shared:
        indices = [index for index in jobs if index not in failed and artifact in lacking[index]]
        errors = artifact.make_family([jobs[index] for index in indices], bench)
        failed |= {indices[position]: error for position, error in errors.items()}
    return failed


def _make(job: Job, lacking: Sequence[Artifact], bench: Workbench, made: set[str]) -> tuple[str, ...]:
    """Make a job's own artifacts, but for those that were made for another job of its address."""
    warnings: list[str] = []
    for artifact in lacking:
        if not artifact.per_family and artifact.name not in made:
            warnings += artifact.make(job, bench)
            made.add(artifact.name)
            made -= dependents(artifact)
    return tuple(dict.fromkeys(warnings))
