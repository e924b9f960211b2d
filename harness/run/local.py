"""Run groups in this process, one after the other: each model is loaded once, and only if it is needed."""

from __future__ import annotations

import time
from collections.abc import Generator

from harness.artifacts.artifact import Workbench
from harness.artifacts.batch_team import Share
from harness.artifacts.job import families
from harness.artifacts.registry import inventory
from harness.plan.plan import Group, Plan
from harness.progress import Progress
from harness.run.executor import Outcome
from harness.run.family import run_family
from harness.run.kept_backends import KeptBackends
from harness.run.shared_group import run_shared
from harness.store.device_turns import DeviceTurns
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
    share: Share | None = None,
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
        share: when other workers run the same group; None when they do not.

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
        to_do = [
            {waiting[member]: jobs[waiting[member]] for member in family}
            for family in families([jobs[index] for index in waiting])
        ]
        if share is not None:
            yield from run_shared(to_do, bench, share)
        for some in to_do if share is None else ():
            names = {job.point_id for job in some.values()}
            # The lock first: who waits for it must not keep others from timing.
            with (
                lock(plan.outputs, names, lambda: progress.message(_WAITING), progress.message),
                bench.turns.working(),
            ):
                yield from run_family(some, bench)
        release = backends.release  # of a group that was interrupted, nothing is known
    finally:
        bench.close()
