"""Where workers of this machine run: the GPUs that each sees, its share of the cores, who times alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.config.local_gpus import LocalGpus
from harness.config.point import Point
from harness.errors import ConfigError
from harness.models.device import cpu_threads, devices
from harness.plan.plan import Group, Plan
from harness.run.workers import counted


@dataclass(frozen=True)
class Slot:
    """A place for one worker at a time.

    Attributes:
        number: from 0.
        name: for people: `worker 0`, `worker 1 (GPU 3)`.
        cores: that its worker is kept to; empty for all.
        environment: variables of its worker, beside the head's own.
        gpus: names of its GPUs for CUDA.
        on_gpus: how many slots have the same GPUs.
    """

    number: int
    name: str
    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    on_gpus: int = 1


def worker_slots(launcher: LocalGpus, points: Iterable[Point] = ()) -> tuple[Slot, ...]:
    """Return the slots that a launcher makes of this machine for these points.

    Raises:
        ConfigError: the machine has not the GPUs that it names, or fewer than one worker needs; or a point
            names its GPU itself.
    """
    _check_devices(points, launcher)
    sets = _gpu_sets(launcher)
    count = len(sets) if launcher.workers == "auto" else launcher.workers
    shares = _shares(count)
    threads = max(1, cpu_threads() // count)
    slots = []
    for number in range(count):
        gpus = sets[number % len(sets)]
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        if "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(threads)
        where = f" (GPU {','.join(gpus)})" if gpus else ""
        on_gpus = sum(other % len(sets) == number % len(sets) for other in range(count))
        slots.append(Slot(number, f"worker {number}{where}", shares[number], environment, gpus, on_gpus))
    return tuple(slots)


def _gpu_sets(launcher: LocalGpus) -> list[tuple[str, ...]]:
    """Return the GPUs of each worker; one empty set on a machine without GPUs."""
    known = [name for name in devices() if name.startswith("cuda")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    # The driver, and so `devices`, counts only what is visible already.
    names = [one.strip() for one in visible.split(",") if one.strip()][: len(known)]
    names = names or [str(index) for index in range(len(known))]
    if launcher.gpus != "auto":
        has = f"GPUs 0 to {len(names) - 1}" if names else "no GPU"
        if wrong := [str(index) for index in launcher.gpus if index >= len(names)]:
            raise ConfigError.of(
                "hydra.launcher.gpus", f"no GPU {', '.join(wrong)} here, this machine has {has}; leave it out"
            )
        names = [names[index] for index in launcher.gpus]
    size = launcher.gpus_per_worker
    if size > max(1, len(names)):
        raise ConfigError.of(
            f"hydra.launcher.gpus_per_worker={size}", f"there are {len(names)} GPUs to share out; lower it"
        )
    return [tuple(names[at : at + size]) for at in range(0, len(names) - size + 1, size)] or [()]


def _shares(count: int) -> list[tuple[int, ...]]:
    """Return disjoint cores for each worker; none where there are too few, or cores cannot be assigned."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    size = len(cores) // count
    return [tuple(cores[at * size : (at + 1) * size]) for at in range(count)]


def _check_devices(points: Iterable[Point], launcher: LocalGpus) -> None:
    """Refuse points that name one GPU by its number, or need more: each worker sees only its own."""
    on_gpus = any(name.startswith("cuda") for name in devices())
    for point in points:
        ranks = point.model.tensor_parallel_size
        if on_gpus and point.model.devices == "tensor_parallel" and ranks != launcher.gpus_per_worker:
            count = ranks or max(2, launcher.gpus_per_worker)
            cure = f"set model.tensor_parallel_size={count} hydra.launcher.gpus_per_worker={count}"
            message = (
                f"a worker sees {launcher.gpus_per_worker} of the GPUs, and has to know how many; {cure}"
            )
            raise ConfigError.of("model.devices=tensor_parallel", message)
        if point.model.device.startswith("cuda:"):
            number = point.model.device.partition(":")[2]
            cure = f"set hydra.launcher.gpus=[{number}] instead"
            message = f"a worker of hydra/launcher=local_gpus sees only its own GPUs; {cure}"
            raise ConfigError.of(f"model.device={point.model.device}", message)


def shared_device(plan: Plan, group: Group, slot: Slot, slots: int) -> tuple[str, int]:
    """Return the device of a group's worker, and how many workers may share it."""
    on_gpu = plan.jobs[group.jobs[0]].target.device.startswith("cuda")
    if on_gpu:
        return f"gpu-{'-'.join(slot.gpus)}", slot.on_gpus
    return "cpu", slots


def describe_slots(slots: tuple[Slot, ...]) -> str:
    """Return how many slots there are, and where: `2 workers (GPU 0, GPU 1, 4 threads each)`."""
    gpus = [f"GPU {','.join(slot.gpus)}" for slot in slots if slot.gpus]
    where = ", ".join(gpus) if gpus else "CPU"
    threads = slots[0].environment.get("OMP_NUM_THREADS")
    share = f", {counted(int(threads), 'thread')} each" if threads else ""
    return f"{counted(len(slots), 'worker')} ({where}{share})"
