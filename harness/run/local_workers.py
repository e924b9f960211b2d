"""`hydra/launcher=local_gpus`: workers are processes of this machine, one a set of GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from queue import SimpleQueue

from harness.config.local_gpus import LocalGpus
from harness.config.point import Point
from harness.models.memory import WORKERS_ON_DEVICE
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.run.worker_process import WorkerProcess
from harness.run.worker_slots import Slot, describe_slots, shared_device, worker_slots
from harness.run.workers import Event, Task, groups_at_once


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

    @staticmethod
    def here() -> str:
        """Return how many workers it would start."""
        slots = worker_slots(LocalGpus())
        if not slots[0].gpus:
            return "no GPU here: one worker, or hydra.launcher.workers=N on the CPU"
        return "one GPU: no faster than without it" if len(slots) == 1 else describe_slots(slots)

    def describe(self, plan: Plan) -> str:
        """Return how the groups of a plan go to workers."""
        shared = {
            shared_device(plan, group, slot, len(self._slots))
            for group in plan.groups
            for slot in self._slots
        }
        parts = [f"{describe_slots(self._slots)}: {groups_at_once(plan, len(self._slots))}"]
        if any(workers > 1 for _, workers in shared):
            parts.append("others pause while latency is measured")
        return "; ".join(parts)

    def prepare(self, plan: Plan, progress: Progress) -> None:
        """Do nothing: workers of this machine can do what this process can."""

    def places(self, plan: Plan) -> int:
        """Return the number of slots."""
        return len(self._slots)

    def start(self, tasks: Sequence[Task], events: SimpleQueue[Event]) -> Sequence[WorkerProcess]:
        """Start a process a task."""
        return [self._started(task, events) for task in tasks]

    def close(self) -> None:
        """Do nothing: its processes have ended."""

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
