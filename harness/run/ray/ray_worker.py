"""A worker on a node of a Ray cluster, as its head sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from harness.artifacts.job import Job
from harness.artifacts.registry import inventory, missing
from harness.errors import ConfigError, HarnessError, StoreError
from harness.run.executor import Outcome
from harness.run.planned_points import FILE
from harness.run.ray.group_files import gets, gives, named_files
from harness.run.ray.parcels import CHUNK_BYTES, Folder, Inbox, Outbox, Parcel
from harness.run.ray.ray_actor import GroupRunner, Run, Shipment
from harness.run.ray.ray_cluster import why_it_died
from harness.run.weights_first import fetched_weights
from harness.run.worker_lines import STORE_FAILED
from harness.run.workers import PATIENCE_S, After, Event, Task, exit_reason, last_line
from harness.store.locks import lock

_ASKED_S = 0.5
_LOOK_S = 2.0
NODES_BACK_S = 60.0
"""A worker that no node could take is given up after this: nodes that died may come back."""
_NODE_MISSED_S = 60.0
"""Ray misses a node that died within this."""
_NODES_LOST = 10
"""Nodes that may be lost under a group before their loss counts as its own death."""
_AT_ONCE = 4
"""Chunks that are sent in one call."""
_GONE = -9
"""The status of a worker that Ray lost: as of one that was killed."""


@dataclass(frozen=True)
class Place:
    """Where a worker may run.

    Attributes:
        options: what Ray is asked for it.
        store: `shared`, `ship` or `auto`.
        seen: a file of the head's store, and its content.
        check_room: raises ConfigError while no node of the cluster could take it.
    """

    options: Mapping[str, Any]
    store: str
    seen: tuple[str, str]
    check_room: Callable[[], None] = lambda: None


class _EndedError(Exception):
    """The worker was asked to end before it began."""


class RayWorker:
    """`harness worker` on a node that Ray chooses.

    Args:
        number: of the workers that run at once.
        task: its group.
        run: the process to start there.
        place: what it needs of the node.
        events: receives what it tells.
    """

    def __init__(self, number: int, task: Task, run: Run, place: Place, events: SimpleQueue[Event]) -> None:
        self.name = f"worker {number}"
        self._task, self._run, self._place, self._events = task, run, place, events
        self.after: After = "count"
        self._status: int | None = None
        self._reason = ""
        self._actor: Any = None
        self._ending = threading.Event()
        self._waits_for_lock = False
        try:
            task.log.parent.mkdir(parents=True, exist_ok=True)
            task.log.touch()
        except OSError as error:
            raise StoreError(f"outputs: {task.log} cannot be written ({error.strerror})") from error
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs, or waits to."""
        return self._status

    def how_it_ended(self) -> str:
        """Return in a few words how it ended, and the last line of its log."""
        last = last_line(self._task.log)
        return f"{self._reason}; its last line: {last}" if last else self._reason

    def end(self) -> None:
        """Ask it to end as on Ctrl-C."""
        self._ending.set()
        actor = self._actor
        if actor is not None:
            with suppress(Exception):
                actor.stop.remote()

    def wait(self) -> None:
        """Wait until it has ended, and what it made is in the store; kill it where that takes long."""
        until = time.monotonic() + PATIENCE_S
        while self._thread.is_alive() and not self._waits_for_lock and time.monotonic() < until:
            self._thread.join(0.1)
        if self._thread.is_alive():
            self._kill()
            self._thread.join(0.0 if self._waits_for_lock else PATIENCE_S)

    def _follow(self) -> None:
        """Start it, pass on what it tells, and note how it ended."""
        status, reason = _GONE, ""
        try:
            status = self._from_start_to_end()
            reason = exit_reason(status)
        except _EndedError:
            reason = "was cancelled before it began"
        except StoreError as error:
            status = STORE_FAILED
            self._tell(error=str(error))
        except HarnessError as error:
            status = error.exit_status
            self._tell(error=" ".join(str(error).split()))
        except Exception as error:
            reason, self.after = why_it_died(self._last_word(error))
            if self.after == "again" and self._task.attempt >= _NODES_LOST:
                self.after = "count"
        finally:
            self._kill()
            self._reason, self._status = reason, status
            self._events.put((self, None))

    def _from_start_to_end(self) -> int:
        import ray

        self._tell(stage={"label": "waiting for room in the cluster", "total": 1, "unit": ""})
        options = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 4, **self._place.options}
        self._actor = ray.remote(GroupRunner).options(**options).remote()
        node, gpus = self._placed(self._actor.where.remote())
        self.name = f"{self.name} ({f'GPU {gpus} of ' if gpus else ''}{node})"
        self._tell(stage={"label": f"starting on {node}", "total": 1, "unit": ""})
        self._look_for_weights()
        if self._sees_the_store():
            self._answer(self._actor.begin.remote(self._run))
            return self._listen(None)
        if self._task.shard is not None:  # nothing to share it by: the first worker runs it all
            if self._task.shard[0] > 0:
                return 0
            self._task = replace(self._task, shard=None)
        with self._own_points() as jobs:
            if not jobs:
                return 0
            inbox = self._sent(jobs)
            self._answer(self._actor.begin.remote(self._run))
            try:
                return self._listen(inbox)
            finally:
                inbox.clear()

    def _sees_the_store(self) -> bool:
        """Return whether the node sees the store, and the working folder, of the head.

        Raises:
            StoreError: it does not, although it must.
        """
        if self._place.store == "ship":
            return False
        sees = self._answer(self._actor.sees.remote(*self._place.seen))
        sees = sees and self._answer(self._actor.has.remote([self._run.folder]))
        if not sees and self._place.store == "shared":
            raise StoreError(
                f"hydra.launcher.store=shared: {self.name} does not see {self._task.plan.outputs}, or the "
                "working folder; set hydra.launcher.store=ship, or put both on a file system that it has, too"
            )
        return bool(sees)

    def _look_for_weights(self) -> None:
        """Let the worker read the weights that the head fetched, if its node sees them, and no others."""
        from huggingface_hub.constants import HF_HUB_CACHE

        plan = self._task.plan
        jobs = [plan.jobs[index] for index in plan.groups[self._task.group].jobs]
        fetched = {str(path) for job in jobs for path in fetched_weights(job)}
        if fetched and self._answer(self._actor.has.remote(sorted(fetched))):
            changes = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(HF_HUB_CACHE)}
            self._run = replace(self._run, environment={**self._run.environment, **changes})

    @contextmanager
    def _own_points(self) -> Iterator[list[Job]]:
        """Hold the locks of the group's points; yield the jobs that are not complete, tell of the others."""
        plan = self._task.plan
        indices = [index for index in plan.groups[self._task.group].jobs if index not in self._task.without]
        names = {plan.jobs[index].point_id for index in indices}
        waiting = "another process is running these points; waiting for it"
        self._waits_for_lock = True
        with lock(
            plan.outputs, names, lambda: self._tell(message=waiting), lambda line: self._tell(message=line)
        ):
            self._waits_for_lock = False
            if self._ending.is_set():
                raise _EndedError
            held = inventory(plan.outputs, thorough=True)
            complete = [
                index
                for index in indices
                if not missing(plan.jobs[index], plan.outputs, held)
                and not held.damage([plan.jobs[index].point_id])
            ]
            for index in complete:
                self._tell(outcome=_facts(Outcome(index, "reused", time.time())))
            without = (*self._task.without, *complete)
            task = replace(self._task, without=without)
            self._run = replace(self._run, words=tuple(task.words[1:]))
            yield [plan.jobs[index] for index in indices if index not in complete]

    def _sent(self, jobs: Sequence[Job]) -> Inbox:
        """Send what the jobs need; return what receives their points."""
        plan, folder = self._task.plan, Path(self._run.folder)
        names, links = named_files(jobs, folder)
        shipment = Shipment(
            points=(plan.folder / FILE).read_text(),
            gets=gets(plan, jobs),
            files=Folder("", files=names or ("-",)),  # none named would mean all
            links=links,
            gives=gives(jobs),
        )
        self._answer(self._actor.prepare.remote(shipment))
        self._tell(stage={"label": "starting: sending files", "total": 1, "unit": ""})
        for place, outbox in (
            ("outputs", Outbox(plan.outputs, shipment.gets)),
            ("work", Outbox(folder, (shipment.files,))),
        ):
            some: list[Parcel] = []
            for parcel in outbox.parcels():
                some.append(parcel)
                if sum(len(getattr(one, "data", b"")) for one in some) >= _AT_ONCE * CHUNK_BYTES:
                    self._answer(self._actor.receive.remote(place, some))
                    some = []
            self._answer(self._actor.receive.remote(place, some))
        staging = self._task.folder / f"arriving-{self._task.name}"
        return Inbox(plan.outputs, staging, shipment.gives)

    def _listen(self, inbox: Inbox | None) -> int:
        """Pass on what the worker tells, its files first, until it has ended; return its exit status."""
        with ExitStack() as closing:
            try:
                log = closing.enter_context(self._task.log.open("ab"))
            except OSError as error:
                raise StoreError(f"outputs: {self._task.log} cannot be written ({error.strerror})") from error
            while True:
                report = self._answer(self._actor.poll.remote(), also_when_ending=True)
                for parcel in report.parcels:
                    assert inbox is not None
                    inbox.put(parcel)
                if report.log:
                    with suppress(OSError):  # a full disk is noticed where it matters
                        log.write(report.log)
                        log.flush()
                for line in report.lines:
                    self._events.put((self, line))
                if report.status is not None:
                    return int(report.status)

    def _last_word(self, error: Exception) -> Exception:
        """Return what Ray says in the end of a worker that it cannot reach: whether its node is gone.

        Another worker that was started before that could be placed on the same node.
        """
        import ray

        until = time.monotonic() + _NODE_MISSED_S
        while isinstance(error, ray.exceptions.ActorUnavailableError) and time.monotonic() < until:
            if self._ending.is_set():
                break
            try:
                ray.get(self._actor.where.remote(), timeout=_LOOK_S)
                break  # there again, but what it told meanwhile may be lost
            except ray.exceptions.GetTimeoutError:
                continue
            except Exception as later:
                error = later
                self._ending.wait(_ASKED_S)
        return error

    def _placed(self, reference: Any) -> Any:
        """Return the answer of a worker that waits for room; not for ever where its nodes are gone."""
        import ray

        begun = time.monotonic()
        while not ray.wait([reference], timeout=_LOOK_S)[0]:
            if self._ending.is_set():
                raise _EndedError
            try:
                self._place.check_room()
                begun = time.monotonic()
            except ConfigError:
                if time.monotonic() > begun + NODES_BACK_S:
                    raise
        return self._answer(reference)

    def _answer(self, reference: Any, also_when_ending: bool = False) -> Any:
        """Return what a call comes to, unless it is asked to end while it waits for that."""
        import ray

        while not ray.wait([reference], timeout=_ASKED_S)[0]:
            if self._ending.is_set() and not also_when_ending:
                raise _EndedError
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error  # what happened there, without its traceback

    def _kill(self) -> None:
        """End its process and Ray's, which waits for room perhaps."""
        actor = self._actor
        if actor is not None:
            import ray

            with suppress(Exception):
                ray.get(actor.kill.remote(), timeout=2.0)
            with suppress(Exception):
                ray.kill(actor)

    def _tell(self, **what: Any) -> None:
        self._events.put((self, what))


def _facts(outcome: Outcome) -> dict[str, Any]:
    import json

    return dict(json.loads(outcome.to_json()))
