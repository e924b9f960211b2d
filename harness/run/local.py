"""Run groups in this process, one after the other: each model is loaded once, and only if it is needed."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence

from harness.artifacts.artifact import Artifact, Workbench
from harness.artifacts.job import Job, families
from harness.artifacts.registry import dependents, inventory, missing, outdate
from harness.errors import SweepEndedError
from harness.plan.plan import Group, Plan
from harness.progress import Progress
from harness.run.executor import Outcome, failure
from harness.run.kept_backends import KeptBackends
from harness.store.device_turns import DeviceTurns
from harness.store.files import remove_unfinished
from harness.store.locks import lock

_WAITING = "another process is running these points; waiting for it"


class LocalExecutor:
    """Runs every group in this process, in the plan's order, which has references first.

    Args:
        backends: opens the groups' backends; each is closed after its group when None.
    """

    def __init__(self, backends: KeptBackends | None = None) -> None:
        self._backends = backends

    def run(self, plan: Plan, progress: Progress) -> Generator[Outcome]:
        """Run the groups; yield each job's outcome once it is known."""
        for group in plan.groups:
            yield from run_group(plan, group, progress, backends=self._backends)


def run_group(
    plan: Plan,
    group: Group,
    progress: Progress,
    turns: DeviceTurns | None = None,
    backends: KeptBackends | None = None,
) -> Generator[Outcome]:
    """Make what the store lacks of each job of a group; yield their outcomes.

    What the plan found complete is reused if its files are what was written; all else is asked for once more
    under the lock, since another process may have made it meanwhile.

    Args:
        plan: the group's.
        group: of whose jobs what is missing is made.
        progress: where progress is reported.
        turns: when other processes share the device; None when they do not.
        backends: opens the group's backend, and may keep it for later; None where it is closed at the end.

    Raises:
        StoreError: the store cannot be written any more.
    """
    backends = backends or KeptBackends(keep=0)
    jobs = {index: plan.jobs[index] for index in group.jobs}
    waiting = []
    held = inventory(plan.outputs, thorough=True)
    for index, job in jobs.items():
        if plan.missing[index] or held.damage([job.point_id]):
            waiting.append(index)
        else:
            yield Outcome(index, "reused", time.time())
    release = backends.close_one
    bench = Workbench(
        plan.outputs,
        progress,
        lambda: backends.open(jobs[waiting[0]], progress),
        turns,
        lambda backend: release(backend),
    )
    try:
        for family in families([jobs[index] for index in waiting]):
            indices = [waiting[member] for member in family]
            names = {jobs[index].point_id for index in indices}
            # The lock first: who waits for it must not keep others from timing.
            with lock(plan.outputs, names, lambda: progress.message(_WAITING)), bench.turns.working():
                yield from _run_family({index: jobs[index] for index in indices}, bench)
        release = backends.release  # of a group that was interrupted, nothing is known
    finally:
        bench.close()


def _run_family(jobs: dict[int, Job], bench: Workbench) -> Iterator[Outcome]:
    """Make what the store lacks of jobs that decode together, whose locks are held."""
    from harness.store.partial import Partial

    started = time.time()
    held = inventory(bench.outputs, thorough=True)
    for point_id in {job.point_id: None for job in jobs.values()}:
        for line in held.repair(point_id):
            bench.progress.message(f"{line}; it is made again")
    lacking = {index: missing(job, bench.outputs, held) for index, job in jobs.items()}
    for index, job in jobs.items():
        remove_unfinished(bench.stored(job).folder)
        Partial(bench.stored(job)).clear_if_complete()
        if lacking[index]:
            outdate(job, lacking[index], bench.stored(job))
    if any(artifact.needs_backend for some in lacking.values() for artifact in some):
        try:
            bench.backend.configure(next(iter(jobs.values())).point.engine)
        except SweepEndedError:
            raise
        except Exception as error:
            for index in jobs:
                yield failure(index, error, time.time())
            return
        started = max(started, bench.opened or 0.0)
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
        except SweepEndedError:
            raise
        except Exception as error:
            yield failure(index, error, time.time(), started)
            continue
        ran = any(artifact.needs_backend for artifact in some)
        warnings = (*(bench.backend.warnings if ran else ()), *notes)
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
            bench.turns.pause()
            warnings += artifact.make(job, bench)
            made.add(artifact.name)
            made -= dependents(artifact)
    return tuple(dict.fromkeys(warnings))
