"""`hydra.launcher.wait=false`: submit all that a sweep lacks and end; the same command goes on later."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.plan.plan import Plan
from harness.progress import Progress
from harness.run.batch_workers import BatchWorkers
from harness.run.planned_points import write_points
from harness.run.workers import Task, counted, is_complete

Detach = Callable[[Plan, Progress], Sequence[str]]
"""Submits what a plan lacks; returns what is to be said of it, nothing where the store lacks nothing."""


def detach_to(workers: BatchWorkers) -> Detach:
    """Return what submits to these workers."""
    return lambda plan, progress: submit_all(plan, workers, progress)


def submit_all(plan: Plan, workers: BatchWorkers, progress: Progress) -> list[str]:
    """Submit every group that is not complete and has no job yet, each wave after the one before.

    Returns:
        Lines for people; none where the store lacks nothing.
    """
    waiting = [number for number in range(len(plan.groups)) if not is_complete(plan, number)]
    if not waiting:
        return []
    workers.prepare(plan, progress)
    record = workers.record(plan)
    live = {job.group: (job, state) for job, state in workers.live(record).items()}
    ids = {group: job.id for group, (job, _) in live.items()}
    lines = [
        f"{plan.groups[group].name}: job {job.id} is {state.words}"
        for group, (job, state) in sorted(live.items())
    ]
    to_submit = [number for number in waiting if number not in live]
    if to_submit:
        write_points(plan)
    for number in to_submit:
        if (before := record.last_of(number)) is not None:
            lines.append(f"{plan.groups[number].name}: job {before.id} {workers.how_ended(before)}")
    submitted = 0
    while to_submit:
        wave = [number for number in to_submit if not set(to_submit) & set(plan.groups[number].after)]
        after = sorted({ids[one] for number in wave for one in plan.groups[number].after if one in ids})
        new = workers.submit([Task(plan, number) for number in wave], after)
        for number in wave:
            ids[number] = new[number].id
            behind = [ids[one] for one in plan.groups[number].after if one in ids]
            order = f", after job {', '.join(behind)}" if behind else ""
            lines.append(f"{plan.groups[number].name}: job {ids[number]} is submitted{order}")
        submitted += len(wave)
        to_submit = [number for number in to_submit if number not in wave]
    done = f"{counted(submitted, 'job')} submitted" if submitted else "nothing submitted"
    cure = "the same command says how far they are, with hydra.launcher.wait=true it waits for them"
    return [*lines, f"{done}; {cure}"]
