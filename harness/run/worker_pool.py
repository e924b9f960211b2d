"""Run groups side by side, each in a worker process; a worker that dies is started again at its group."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from harness.artifacts.job import families
from harness.artifacts.registry import inventory
from harness.config.launcher import LocalGpus
from harness.config.point import Point
from harness.errors import StoreError
from harness.models.memory import WORKERS_ON_DEVICE
from harness.plan.plan import Plan
from harness.progress import Progress, bar_beside
from harness.run.executor import Outcome
from harness.run.planned_points import write_points
from harness.run.worker_lines import STORE_FAILED
from harness.run.worker_process import Event, WorkerProcess
from harness.run.worker_slots import Slot, shared_device, worker_slots
from harness.store.stored_point import stored_point

_POLL_S = 0.5


@dataclass
class _Running:
    """A group that a worker runs.

    Attributes:
        number: of the group.
        slot: its worker's.
        worker: the process.
        bar: where its progress is shown.
        left: jobs without an outcome so far.
        failed: jobs that a worker need not try any more.
        deaths: of workers since points of the group failed for it.
        kept: what the store had of the family that was in work when the last one died.
        began: whether the present worker has got beyond loading.
        error: the line that the worker ended with.
        done: units of the stage that are shown.
    """

    number: int
    slot: Slot
    worker: WorkerProcess
    bar: Progress
    left: list[int]
    failed: list[int] = field(default_factory=list)
    deaths: int = 0
    kept: frozenset[str] | None = None
    began: bool = False
    error: str | None = None
    done: int = 0


class WorkerPool:
    """Runs each group in a worker process, several at once, those first that others are compared with.

    Args:
        launcher: how many workers, on which GPUs.
        points: that will be run.

    Raises:
        ConfigError: the launcher cannot run them on this machine.
    """

    def __init__(self, launcher: LocalGpus, points: Iterable[Point]) -> None:
        self._retries = launcher.retries
        self._slots = worker_slots(launcher, points)

    def run(self, plan: Plan, progress: Progress) -> Generator[Outcome]:
        """Run every group; yield each job's outcome once it is known.

        Raises:
            StoreError: the store cannot be written any more.
        """
        yield from _PoolRun(plan, progress, self._slots, self._retries).outcomes()


class _PoolRun:
    """One plan that is run by workers."""

    def __init__(self, plan: Plan, progress: Progress, slots: tuple[Slot, ...], retries: int) -> None:
        self._plan, self._progress = plan, progress
        self._slots, self._retries = slots, retries
        self._folder = plan.folder / "workers"
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._running: list[_Running] = []
        self._waiting = list(range(len(plan.groups)))
        self._ended: set[int] = set()

    def outcomes(self) -> Generator[Outcome]:
        for number in list(self._waiting):
            if self._is_complete(number):
                self._waiting.remove(number)
                self._ended.add(number)
                now = time.time()
                yield from (Outcome(index, "reused", now) for index in self._plan.groups[number].jobs)
        if self._waiting:
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

    def _is_complete(self, number: int) -> bool:
        jobs = self._plan.groups[number].jobs
        if any(self._plan.missing[index] for index in jobs):
            return False
        held = inventory(self._plan.outputs, thorough=True)
        return not any(held.damage(self._plan.jobs[index].point_id for index in jobs))

    def _start_what_can_start(self) -> None:
        taken = {one.slot.number for one in self._running}
        for slot in self._slots:
            if slot.number in taken:
                continue
            ready = (n for n in self._waiting if self._ended.issuperset(self._plan.groups[n].after))
            number = next(ready, None)
            if number is None:
                return
            self._waiting.remove(number)
            bar = bar_beside(self._progress, f"{slot.name}: ")
            left = list(self._plan.groups[number].jobs)
            self._running.append(_Running(number, slot, self._worker(number, slot), bar, left))

    def _worker(self, number: int, slot: Slot, without: list[int] | None = None) -> WorkerProcess:
        words = [str(self._plan.folder), "--group", str(number)]
        if without:
            words += ["--without", ",".join(map(str, without))]
        environment = dict(slot.environment)
        device, workers = shared_device(self._plan, self._plan.groups[number], slot, len(self._slots))
        if workers > 1:
            words += ["--shared", str(self._folder / device)]
            environment[WORKERS_ON_DEVICE] = str(workers)
        if slot.cores:
            words += ["--cores", ",".join(map(str, slot.cores))]
        return WorkerProcess(words, environment, self._folder / f"group-{number}.log", self._events)

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
            one.began |= not str(told["stage"]["label"]).startswith(("starting", "loading", "waiting"))
            one.bar.stage(**told["stage"])
        elif "done" in told:
            one.bar.advance(int(told["done"]) - one.done)
            one.done = int(told["done"])
        elif "message" in told:
            self._progress.message(f"{one.slot.name}: {told['message']}")
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
        how = one.error or f"{one.slot.name} {one.worker.how_it_ended()}"
        if status in (1, 2):  # it says itself that it cannot; once more would be the same
            yield from self._fail(one, list(one.left), how)
            self._group_ended(one)
            return
        one.deaths += 1
        family = self._family_in_work(one)
        kept = self._kept(family)
        group = self._plan.groups[one.number].name
        if one.deaths > 1 and kept == one.kept:
            doomed = family if one.began else list(one.left)
            yield from self._fail(one, doomed, f"{how}; twice at the same place, so these points fail")
            one.deaths = 0
        elif one.deaths > self._retries:
            often = f"; {one.deaths} workers of this group died" if one.deaths > 1 else ""
            yield from self._fail(one, list(one.left), f"{how}{often}")
        if not one.left:
            self._group_ended(one)
            return
        again = f" ({one.deaths} of {self._retries})" if one.deaths else " without these points"
        self._progress.message(f"{group}: {how}; started again{again}, what is kept is not decoded again")
        one.kept, one.began, one.error = kept, False, None
        one.worker = self._worker(one.number, one.slot, one.failed)

    def _fail(self, one: _Running, jobs: list[int], error: str) -> Iterator[Outcome]:
        for index in jobs:
            one.left.remove(index)
            one.failed.append(index)
            yield Outcome(index, "failed", time.time(), error=error)

    def _group_ended(self, one: _Running) -> None:
        self._running.remove(one)
        self._ended.add(one.number)
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
