"""`hydra/launcher=ray`: workers on the nodes of a Ray cluster, one a group."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue

from harness.config.point import Point
from harness.config.ray_launcher import RayLauncher
from harness.errors import ConfigError
from harness.models.device import SHARES_NODE
from harness.models.memory import WORKERS_ON_DEVICE
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.run.ray import ray_cluster
from harness.run.ray.ray_actor import Run
from harness.run.ray.ray_worker import Place, RayWorker
from harness.run.weights_first import fetch_weights_first
from harness.run.workers import Event, Task, counted, groups_at_once
from harness.store.files import write_text

COMMAND = ("-m", "harness", "worker")
"""What starts a worker, after the node's Python."""

_PROBE = "seen-by-nodes"
_LOOK_S = 10.0
_FORWARDED = ("HF_HUB_OFFLINE",)


class RayWorkers:
    """Starts workers on a Ray cluster.

    Args:
        launcher: which cluster, and what each worker needs.
        points: that will be run.

    Raises:
        ConfigError: Ray is missing, the cluster cannot be reached, or no node has room for a worker.
    """

    def __init__(self, launcher: RayLauncher, points: Sequence[Point] = ()) -> None:
        self.retries = launcher.retries
        self._launcher = launcher
        self._connected = False
        self._numbers: dict[int, RayWorker] = {}
        self._probe: tuple[str, str] | None = None
        _check_devices(points)
        ray_cluster.check_installed()
        if launcher.address is not None:
            self._connect()
        self._nodes = ray_cluster.nodes(launcher)
        self._looked = time.monotonic()
        ray_cluster.check_room(launcher, self._nodes)

    @staticmethod
    def here() -> str:
        """Return whether Ray is installed, and which cluster it would use."""
        if not ray_cluster.is_installed():
            return "Ray is not installed: pip install 'decoding-harness[ray]'"
        from importlib.metadata import version

        address = os.environ.get("RAY_ADDRESS")
        where = (
            f"the cluster at {address}" if address else "a cluster on this machine, or ray.init.address=..."
        )
        return f"Ray {version('ray')}: {where}"

    def describe(self, plan: Plan) -> str:
        """Return how many workers have room at once, with what, and where the store is."""
        launcher, most = self._launcher, self.places(plan)
        need = ", ".join(
            f"{'GPUs' if name == 'GPU' else 'CPUs' if name == 'CPU' else name} {amount:g}"
            for name, amount in ray_cluster.needed(launcher).items()
        )
        where = launcher.address or "of this machine"
        store = {"auto": "looked up", "shared": "shared", "ship": "files are sent"}[launcher.store]
        if launcher.address is None and launcher.store == "auto":
            store = "shared"
        parts = [
            f"{counted(most, 'worker')} ({need} each) on the Ray cluster {where}",
            f"store: {store}",
            groups_at_once(plan, most),
        ]
        if any(self._device(plan, group.jobs[0]) for group in plan.groups):
            parts.append("others on a node pause while latency is measured")
        return "; ".join(parts)

    def places(self, plan: Plan) -> int:
        """Return how many workers have room in the cluster."""
        need = ray_cluster.needed(self._launcher)
        if time.monotonic() > self._looked + _LOOK_S:  # nodes come and go
            self._nodes, self._looked = ray_cluster.nodes(self._launcher), time.monotonic()
        fit = sum(ray_cluster.room(need, has) for has in self._nodes.values())
        if self._launcher.autoscale:
            fit = max(fit, len(plan.groups))
        return max(1, fit if self._launcher.workers == "auto" else min(self._launcher.workers, fit))

    def prepare(self, plan: Plan, progress: Progress) -> None:
        """Connect, and fetch weights that nodes may see; those that do not see them fetch their own."""
        if not self._connected:
            progress.stage("connecting to Ray", 1, "")
            self._connect()
        if self._launcher.store != "ship":
            fetch_weights_first(plan, progress)

    def start(self, tasks: Sequence[Task], events: SimpleQueue[Event]) -> Sequence[RayWorker]:
        """Ask Ray for a worker a task."""
        return [self._started(task, events) for task in tasks]

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._connected:
            self._connected = False
            ray_cluster.disconnect()
        if self._probe is not None:
            with suppress(OSError):
                os.unlink(self._probe[0])

    def _connect(self) -> None:
        self._connected = ray_cluster.connect(self._launcher)

    def _started(self, task: Task, events: SimpleQueue[Event]) -> RayWorker:
        number = next(n for n in range(len(self._numbers) + 1) if self._is_free(n))
        worker = RayWorker(number, task, self._run(task), self._place(task), events)
        self._numbers[number] = worker
        return worker

    def _is_free(self, number: int) -> bool:
        worker = self._numbers.get(number)
        return worker is None or worker.status is not None

    def _place(self, task: Task) -> Place:
        launcher = self._launcher
        remote = launcher.ray.remote
        options = {
            **remote.model_dump(include={"num_cpus", "memory", "accelerator_type", "scheduling_strategy"}),
            "num_gpus": ray_cluster.gpus_of(launcher),
            "resources": remote.resources or None,
            "label_selector": remote.label_selector or None,
            "runtime_env": remote.runtime_env or None,
        }
        store = launcher.store
        if launcher.address is None and store == "auto":
            store = "shared"
        return Place(
            {name: value for name, value in options.items() if value is not None},
            store,
            self._seen(task),
            self._check_room,
        )

    def _check_room(self) -> None:
        ray_cluster.check_room(self._launcher, ray_cluster.nodes(self._launcher))

    def _seen(self, task: Task) -> tuple[str, str]:
        """Return a file of the store, and its content, by which a node knows whether it sees the store."""
        if self._probe is None:
            path, content = task.folder / _PROBE, secrets.token_hex(16)
            write_text(path, content)
            self._probe = str(path), content
        return self._probe

    def _run(self, task: Task) -> Run:
        cpus, gpus = self._launcher.ray.remote.num_cpus, ray_cluster.gpus_of(self._launcher)
        device = self._device(task.plan, task.plan.groups[task.group].jobs[0])
        environment = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
        environment["OMP_NUM_THREADS"] = str(max(1, int(cpus)))
        if device is not None:
            need = ray_cluster.needed(self._launcher)
            on_node = max((ray_cluster.room(need, has) for has in self._nodes.values()), default=1)
            beside = int(1 / gpus + 1e-9) if device == "gpu" else min(self.places(task.plan), max(1, on_node))
            environment[WORKERS_ON_DEVICE] = str(beside)
            most = max((has.get("CPU", 0) for has in self._nodes.values()), default=0)
            if device == "cpu" and self._launcher.address is not None and cpus < most:
                environment[SHARES_NODE] = "1"  # with other jobs: the workers of this sweep take turns
        # What follows the sweep's folder, which the node may have elsewhere.
        return Run(COMMAND, tuple(task.words[1:]), environment, os.getcwd(), str(task.plan.folder), device)

    def _device(self, plan: Plan, job: int) -> str | None:
        """Return what a job's worker shares with others of its node: the CPU, or a part of a GPU."""
        if not plan.jobs[job].target.device.startswith("cuda"):
            return "cpu"
        return "gpu" if 0 < ray_cluster.gpus_of(self._launcher) < 1 else None


def _check_devices(points: Sequence[Point]) -> None:
    """Refuse points that name one GPU by its number: each worker sees only its own."""
    for point in points:
        if point.model.device.startswith("cuda:"):
            problem = "a worker sees only the GPUs that Ray gives it; leave model.device out"
            raise ConfigError.of(f"model.device={point.model.device}", problem)
