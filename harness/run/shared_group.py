"""A group that several workers run: they share the batches of its families.

Each walks through the families in the same order. The first to come to one leads it, and the others help it
to decode (`artifacts/batch_team.py`); then they go on to the next, while it makes what is not made by batch.
The first worker looks at all of them once more in the end, so that none is left undone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from harness.artifacts.artifact import Workbench
from harness.artifacts.batch_team import Share, Team
from harness.artifacts.job import Job
from harness.artifacts.registry import missing
from harness.artifacts.samples import Samples, help_decode
from harness.config.secret_text import without_secrets
from harness.errors import SweepEndedError, one_line
from harness.run.executor import Outcome
from harness.run.family import run_family
from harness.store.locks import lock, try_lock

POLL_S = 0.3
"""Who can neither lead nor help yet looks so often."""

Family = dict[int, Job]
"""Jobs that decode together, by their index in the plan."""


def run_shared(families: Sequence[Family], bench: Workbench, share: Share) -> Iterator[Outcome]:
    """Run this worker's share of a group; yield the outcomes of the jobs that it led."""
    elsewhere = []
    for jobs in families:
        bench.team = _team(jobs, bench, share)
        mine = _number(jobs, share) % share.workers == share.worker
        settled = False
        while not settled:
            decodes = _decodes(jobs, bench)
            with try_lock(bench.outputs, _names(jobs), bench.progress.message) as leads:
                if leads and (decodes or mine):
                    with bench.turns.working():
                        yield from run_family(jobs, bench)
                    settled = True
            if settled or not decodes:
                break
            if not leads and _helped(jobs, bench):
                break
            time.sleep(POLL_S)
        if not settled:
            elsewhere.append(jobs)
    if share.worker == 0:
        for jobs in elsewhere:
            bench.team = _team(jobs, bench, share)
            with (
                lock(bench.outputs, _names(jobs), lambda: _wait(bench), bench.progress.message),
                bench.turns.working(),
            ):
                yield from run_family(jobs, bench)


def _helped(jobs: Family, bench: Workbench) -> bool:
    """Decode batches of jobs that another worker leads; return whether nothing is left to help with."""
    with bench.turns.working():
        try:
            bench.backend.configure(next(iter(jobs.values())).point.engine)
            return help_decode(list(jobs.values()), bench)
        except SweepEndedError:
            raise
        except Exception as error:  # whoever leads decodes what is left, and tells what fails
            bench.progress.message(f"helps no more: {without_secrets(one_line(error))}")
            return True


def _wait(bench: Workbench) -> None:
    bench.progress.stage("waiting for the workers that share the group", 1, "")


def _decodes(jobs: Family, bench: Workbench) -> bool:
    return any(
        isinstance(artifact, Samples) for job in jobs.values() for artifact in missing(job, bench.outputs)
    )


def _names(jobs: Family) -> set[str]:
    return {job.point_id for job in jobs.values()}


def _number(jobs: Family, share: Share) -> int:
    return share.families[next(iter(jobs))]


def _team(jobs: Family, bench: Workbench, share: Share) -> Team:
    """Return the team of a family: the same for all workers, whatever is stored by now."""
    name = f"{share.group}.{_number(jobs, share)}"
    return Team(bench.outputs, name, share.worker, share.workers, bench.progress.message)
