"""Run jobs that decode together: make what the store lacks of each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from harness.artifacts.artifact import Artifact, Workbench
from harness.artifacts.job import Job
from harness.artifacts.registry import dependents, inventory, missing, outdate
from harness.errors import SweepEndedError
from harness.run.executor import Outcome, failure
from harness.store.files import remove_unfinished


def run_family(jobs: dict[int, Job], bench: Workbench) -> Iterator[Outcome]:
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
