"""`hydra/launcher=local_gpus`: workers are processes of this machine, one a set of GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from queue import SimpleQueue

from harness.config.launcher import LocalGpus
from harness.config.point import Point
from harness.models.memory import WORKERS_ON_DEVICE
from harness.plan.plan import Plan
from harness.run.worker_process import WorkerProcess
from harness.run.worker_slots import Slot, shared_device, worker_slots
from harness.run.workers import Event, Task


class LocalWorkers:
    """Starts workers on this machine, each in a free slot.

    Args:
        launcher: how many workers, on which GPUs.
        points: that will be run.

    Raises:
        ConfigError: the launcher cannot run them on this machine.
    """

    def __init__(self, launcher: LocalGpus, points: Iterable[Point] = ()) -> None:
        self.retries = launcher.retries
        self._slots = worker_slots(launcher, points)
        self._taken: dict[int, WorkerProcess] = {}

    def places(self, plan: Plan) -> int:
        """Return the number of slots."""
        return len(self._slots)

    def start(self, tasks: Sequence[Task], events: SimpleQueue[Event]) -> Sequence[WorkerProcess]:
        """Start a process a task."""
        return [self._started(task, events) for task in tasks]

    def _started(self, task: Task, events: SimpleQueue[Event]) -> WorkerProcess:
        slot = next(slot for slot in self._slots if self._is_free(slot))
        words, environment = task.words, dict(slot.environment)
        device, workers = shared_device(task.plan, task.plan.groups[task.group], slot, len(self._slots))
        if workers > 1:
            words += ["--shared", str(task.folder / device)]
            environment[WORKERS_ON_DEVICE] = str(workers)
        if slot.cores:
            words += ["--cores", ",".join(map(str, slot.cores))]
        worker = WorkerProcess(slot.name, words, environment, task.log, events)
        self._taken[slot.number] = worker
        return worker

    def _is_free(self, slot: Slot) -> bool:
        worker = self._taken.get(slot.number)
        return worker is None or worker.status is not None
