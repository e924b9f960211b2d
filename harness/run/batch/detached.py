"""`hydra.launcher.wait=false`: submit all that a sweep lacks and end; the same command goes on later."""

from __future__ import annotations

from collections import defaultdict

from harness.plan.plan import Plan
from harness.progress import Progress
from harness.run.batch.batch_workers import BatchWorkers
from harness.run.launch import Detach
from harness.run.planned_points import write_points
from harness.run.shards import shards_of
from harness.run.workers import Task, counted, is_complete


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
    live = workers.live(record)
    ids: defaultdict[int, list[str]] = defaultdict(list)
    for job in live:
        ids[job.group].append(job.id)
    lines = [
        f"{plan.groups[job.group].name}: job {job.id} is {state.words}"
        for job, state in sorted(live.items(), key=lambda one: (one[0].group, one[0].share))
    ]
    to_submit = [number for number in waiting if number not in ids]
    if to_submit:
        write_points(plan)
    for number in to_submit:
        if (before := record.last_of(number)) is not None:
            lines.append(f"{plan.groups[number].name}: job {before.id} {workers.how_ended(before)}")
    submitted = 0
    while to_submit:
        wave = [number for number in to_submit if not set(to_submit) & set(plan.groups[number].after)]
        after = sorted(
            {job for number in wave for one in plan.groups[number].after for job in ids.get(one, ())}
        )
        tasks = [task for number in wave for task in _tasks(plan, number, workers.places(plan))]
        new = workers.submit(tasks, after)
        for task in tasks:
            job = new[task.name]
            ids[task.group].append(job.id)
            behind = [job for one in plan.groups[task.group].after for job in ids.get(one, ())]
            order = f", after job {', '.join(behind)}" if behind else ""
            lines.append(f"{plan.groups[task.group].name}: job {job.id} is submitted{order}")
        submitted += len(tasks)
        to_submit = [number for number in to_submit if number not in wave]
    done = f"{counted(submitted, 'job')} submitted" if submitted else "nothing submitted"
    cure = "the same command says how far they are, with hydra.launcher.wait=true it waits for them"
    return [*lines, f"{done}; {cure}"]


def _tasks(plan: Plan, number: int, places: int) -> list[Task]:
    """Return the task of a group, or those of the workers that share it."""
    shards = shards_of(plan, plan.groups[number], places)
    if shards == 1:
        return [Task(plan, number)]
    return [Task(plan, number, shard=(worker, shards)) for worker in range(shards)]
