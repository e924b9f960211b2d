"""Run groups side by side, each in a worker, or in several that share it; one that dies is started again."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from harness.errors import StoreError
from harness.plan.plan import Plan
from harness.progress import Progress, bar_beside
from harness.run.executor import Outcome
from harness.run.group_progress import GroupProgress
from harness.run.planned_points import write_points
from harness.run.worker_lines import STORE_FAILED
from harness.run.workers import Event, Task, Worker, Workers, is_complete
from harness.store.lock_probe import lock_probe

_POLL_S = 0.5
_BEFORE = ("starting", "loading", "waiting", "queued")
"""How stages begin in which nothing has been decoded yet."""


@dataclass
class _Running:
    """A worker, and the group that it runs or shares.

    Attributes:
        group: what is known of it.
        task: what the worker runs.
        worker: the present one.
        bar: where its progress is shown.
        began: whether the present worker has got beyond loading.
        error: the line that the worker ended with.
        done: units of the stage that are shown.
        deaths: of workers that ran the task, since points of the group failed for it.
    """

    group: GroupProgress
    task: Task
    worker: Worker
    bar: Progress
    began: bool = False
    error: str | None = None
    done: int = 0
    deaths: int = 0


class WorkerPool:
    """Runs each group in a worker, several at once, those first that others are compared with.

    Args:
        workers: starts them.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def run(self, plan: Plan, progress: Progress) -> Generator[Outcome]:
        """Run every group; yield each job's outcome once it is known.

        Raises:
            StoreError: the store cannot be written any more.
        """
        yield from _PoolRun(plan, progress, self._workers).outcomes()


class _PoolRun:
    """One plan that is run by workers."""

    def __init__(self, plan: Plan, progress: Progress, workers: Workers) -> None:
        self._plan, self._progress, self._workers = plan, progress, workers
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._running: list[_Running] = []
        self._waiting = list(range(len(plan.groups)))
        self._ended: set[int] = set()

    def outcomes(self) -> Generator[Outcome]:
        for number in list(self._waiting):
            if is_complete(self._plan, number):
                self._waiting.remove(number)
                self._ended.add(number)
                now = time.time()
                yield from (Outcome(index, "reused", now) for index in self._plan.groups[number].jobs)
        if not self._waiting:
            self._workers.close()
            return
        self._workers.prepare(self._plan, self._progress)
        write_points(self._plan)
        with lock_probe(self._plan.outputs, self._progress.message):
            yield from self._run()

    def _run(self) -> Iterator[Outcome]:
        try:
            while self._waiting or self._running:
                self._start_what_can_start()
                with suppress(Empty):
                    worker, told = self._events.get(timeout=_POLL_S)
                    one = next((one for one in self._running if one.worker is worker), None)
                    if one is not None:
                        yield from self._ended_worker(one) if told is None else self._heard(one, told)
        finally:
            for one in self._running:
                one.worker.end()
            for one in self._running:
                one.worker.wait()
            self._workers.close()

    def _start_what_can_start(self) -> None:
        """Start groups that may begin; where places are left, workers that share those that go on."""
        places = self._workers.places(self._plan)
        free = places - len(self._running)
        ready = [n for n in self._waiting if self._ended.issuperset(self._plan.groups[n].after)]
        chosen = ready[: max(0, free)]
        self._waiting = [number for number in self._waiting if number not in chosen]
        started = [GroupProgress.begin(self._plan, number, places) for number in chosen]
        tasks = [(group, group.next_task()) for group in started]
        going_on = [*started, *{id(one.group): one.group for one in self._running}.values()]
        for _ in range(free - len(chosen)):
            shared = [group for group in going_on if group.has_room()]
            if not shared:
                break
            group = min(shared, key=lambda group: len(group.begun))
            tasks.append((group, group.next_task()))
        if not tasks:
            return
        workers = self._workers.start([task for _, task in tasks], self._events)
        for (group, task), worker in zip(tasks, workers, strict=True):
            bar = bar_beside(self._progress, f"{worker.name}: ")
            self._running.append(_Running(group, task, worker, bar))

    def _heard(self, one: _Running, told: Mapping[str, Any]) -> Iterator[Outcome]:
        if "outcome" in told:
            yield from one.group.outcomes(Outcome.of_facts(told["outcome"]))
        elif "stage" in told:
            one.done = 0
            one.began |= not str(told["stage"]["label"]).startswith(_BEFORE)
            one.bar.stage(**told["stage"])
        elif "done" in told:
            one.bar.advance(int(told["done"]) - one.done)
            one.done = int(told["done"])
        elif "message" in told:
            self._progress.message(f"{one.worker.name}: {told['message']}")
        elif "error" in told:
            one.error = str(told["error"])

    def _ended_worker(self, one: _Running) -> Iterator[Outcome]:
        """A worker has ended: its group is done, or it died and is started again, or its points fail."""
        status, group = one.worker.status, one.group
        if status == STORE_FAILED:
            raise StoreError(one.error or f"{self._plan.outputs} cannot be written any more")
        others = [other for other in self._running if other.group is group and other is not one]
        ended_well = one.task.shard is not None and status in (0, 1) and one.error is None
        group.closed |= ended_well
        if not others:
            yield from group.last_outcomes()
        if not group.left or (ended_well and others):
            self._leaves(one, others)
            return
        how = one.error or f"{one.worker.name} {one.worker.how_it_ended()}"
        refused = not ended_well and (status in (1, 2) or one.worker.after == "never")
        if one.worker.after == "again" and not refused and not ended_well:
            self._start_again(one, f"{how}; goes on in another one")
            return
        one.deaths += not refused
        # While others go on, they may be what keeps it from getting on.
        stuck = not refused and group.is_stuck() and one.deaths > 1 and not others
        if stuck:
            doomed = group.family_in_work() if one.began else list(group.left)
            yield from group.fail(doomed, f"{how}; twice at the same place, so these points fail")
            one.deaths = 0
        elif refused or one.deaths > self._workers.retries:
            if others:
                self._progress.message(f"{group.name}: {how}; the other workers go on without it")
            else:
                often = f"; {one.deaths} workers of this group died" if one.deaths > 1 else ""
                yield from group.fail(list(group.left), f"{how}{often}")
            self._leaves(one, others)
            return
        if not group.left:
            self._leaves(one, others)
            return
        again = f" ({one.deaths} of {self._workers.retries})" if one.deaths else " without these points"
        how = f"{how}; started again{again}, what is kept is not decoded again"
        self._start_again(one, how, alone=ended_well)

    def _start_again(self, one: _Running, how: str, *, alone: bool = False) -> None:
        """Start another worker in the place of one; `alone` it runs all that is left of its group."""
        self._progress.message(f"{one.group.name}: {how}")
        one.began, one.error = False, None
        one.task = one.group.again(one.task, alone=alone)
        (one.worker,) = self._workers.start([one.task], self._events)

    def _leaves(self, one: _Running, others: Sequence[_Running]) -> None:
        """A worker is not started again; with the last one its group ends."""
        self._running.remove(one)
        one.bar.stage("", 0, "")
        if not others:
            self._ended.add(one.group.number)
        elif not one.group.left:
            for other in others:  # at what is told already
                other.worker.end()
