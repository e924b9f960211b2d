"""Run groups side by side, each in a worker; a worker that dies is started again at its group."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from harness.artifacts.job import families
from harness.errors import StoreError
from harness.plan.plan import Plan
from harness.progress import Progress, bar_beside
from harness.run.executor import Outcome
from harness.run.planned_points import write_points
from harness.run.worker_lines import STORE_FAILED
from harness.run.workers import Event, Task, Worker, Workers, is_complete
from harness.store.stored_point import stored_point

_POLL_S = 0.5
_BEFORE = ("starting", "loading", "waiting", "queued")
"""How stages begin in which nothing has been decoded yet."""


@dataclass
class _Running:
    """A group that a worker runs.

    Attributes:
        task: the group.
        worker: the present one.
        bar: where its progress is shown.
        left: jobs without an outcome so far.
        failed: jobs that a worker need not try any more.
        deaths: of workers since points of the group failed for it.
        kept: what the store had of the family that was in work when the last one died.
        began: whether the present worker has got beyond loading.
        error: the line that the worker ended with.
        done: units of the stage that are shown.
    """

    task: Task
    worker: Worker
    bar: Progress
    left: list[int]
    failed: list[int] = field(default_factory=list)
    deaths: int = 0
    kept: frozenset[str] | None = None
    began: bool = False
    error: str | None = None
    done: int = 0


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
        if self._waiting:
            self._workers.prepare(self._plan, self._progress)
            write_points(self._plan)
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
        free = self._workers.places(self._plan) - len(self._running)
        ready = [n for n in self._waiting if self._ended.issuperset(self._plan.groups[n].after)]
        tasks = [Task(self._plan, number) for number in ready[: max(0, free)]]
        if not tasks:
            return
        for task, worker in zip(tasks, self._workers.start(tasks, self._events), strict=True):
            self._waiting.remove(task.group)
            bar = bar_beside(self._progress, f"{worker.name}: ")
            self._running.append(_Running(task, worker, bar, list(self._plan.groups[task.group].jobs)))

    def _heard(self, one: _Running, told: Mapping[str, Any]) -> Iterator[Outcome]:
        if "outcome" in told:
            outcome = Outcome.of_facts(told["outcome"])
            if outcome.job in one.left:
                one.left.remove(outcome.job)
                if outcome.status == "failed":
                    one.failed.append(outcome.job)
                yield outcome
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
        status = one.worker.status
        if status == STORE_FAILED:
            raise StoreError(one.error or f"{self._plan.outputs} cannot be written any more")
        if not one.left:
            self._group_ended(one)
            return
        how = one.error or f"{one.worker.name} {one.worker.how_it_ended()}"
        if status in (1, 2):  # it says itself that it cannot; once more would be the same
            yield from self._fail(one, list(one.left), how)
            self._group_ended(one)
            return
        if one.worker.after == "never":
            yield from self._fail(one, list(one.left), how)
            self._group_ended(one)
            return
        if one.worker.after == "again":
            self._start_again(one, f"{how}; goes on in another one")
            return
        one.deaths += 1
        family = self._family_in_work(one)
        kept = self._kept(family)
        if one.deaths > 1 and kept == one.kept:
            doomed = family if one.began else list(one.left)
            yield from self._fail(one, doomed, f"{how}; twice at the same place, so these points fail")
            one.deaths = 0
        elif one.deaths > self._workers.retries:
            often = f"; {one.deaths} workers of this group died" if one.deaths > 1 else ""
            yield from self._fail(one, list(one.left), f"{how}{often}")
        if not one.left:
            self._group_ended(one)
            return
        again = f" ({one.deaths} of {self._workers.retries})" if one.deaths else " without these points"
        one.kept = kept
        self._start_again(one, f"{how}; started again{again}, what is kept is not decoded again")

    def _start_again(self, one: _Running, how: str) -> None:
        self._progress.message(f"{self._plan.groups[one.task.group].name}: {how}")
        one.began, one.error = False, None
        one.task = replace(one.task, without=tuple(one.failed), attempt=one.task.attempt + 1)
        (one.worker,) = self._workers.start([one.task], self._events)

    def _fail(self, one: _Running, jobs: list[int], error: str) -> Iterator[Outcome]:
        for index in jobs:
            one.left.remove(index)
            one.failed.append(index)
            yield Outcome(index, "failed", time.time(), error=error)

    def _group_ended(self, one: _Running) -> None:
        self._running.remove(one)
        self._ended.add(one.task.group)
        one.bar.stage("", 0, "")

    def _family_in_work(self, one: _Running) -> list[int]:
        """Return the jobs that a group's worker was at: the first of its families with one that is left."""
        to_do = [index for index in one.left if self._plan.missing[index]] or one.left
        first = families([self._plan.jobs[index] for index in to_do])[0]
        return [to_do[member] for member in first]

    def _kept(self, family: list[int]) -> frozenset[str]:
        """Return the names of what the store has of jobs: complete artifacts, batches and chunks."""
        found = set()
        for index in family:
            stored = stored_point(self._plan.outputs, self._plan.jobs[index].point_id)
            found |= {f"{stored.point_id} {name}" for name in stored.parts()}
            found |= {str(path) for path in _files(stored.folder) if path.suffix != ".part"}
        return frozenset(found)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
