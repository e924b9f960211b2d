"""The devices of this machine, and the one that a model runs on."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import math
import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.once import Once

SHARES_NODE = "HARNESS_SHARES_NODE"
"""The environment variable that tells a worker, if 1, that others may compute on its node's CPUs."""


def devices() -> tuple[str, ...]:
    """Return the devices of this machine, the preferred one first: every `cuda:N`, `mps`, `cpu`.

    Torch is asked where it is imported already, else the CUDA driver: importing torch takes seconds, and a
    plan only needs the names.
    """
    if "torch" in sys.modules:
        import torch

        gpus, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    else:
        driver, count = _driver(), ctypes.c_int(0)
        if driver is not None:
            driver.cuDeviceGetCount(ctypes.byref(count))
        gpus, mps = count.value, sys.platform == "darwin" and platform.machine() == "arm64"
    return (*(f"cuda:{index}" for index in range(gpus)), *(["mps"] if mps else []), "cpu")


def gpu_bytes(device: str) -> int:
    """Return the total memory of `cuda` or `cuda:N` according to the driver; 0 where that is unknown."""
    driver, handle, size = _driver(), ctypes.c_int(0), ctypes.c_size_t(0)
    index = int(device.partition(":")[2] or 0)
    if driver is None or driver.cuDeviceGet(ctypes.byref(handle), index) != 0:
        return 0
    return size.value if driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle) == 0 else 0


def _driver() -> Any:
    """Return the CUDA driver, initialised; None where there is none, or torch was built without CUDA."""
    if metadata.version("torch").endswith("+cpu"):
        return None
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return driver if driver.cuInit(0) == 0 else None
    except (OSError, AttributeError):
        return None


def resolve_device(name: str) -> str:
    """Return the device that `model.device` names: `auto` is the first of cuda, mps, cpu; `cuda` is `cuda:0`.

    Raises:
        ConfigError: this machine has no such device; with those that it has.
    """
    available = devices()
    if name == "auto":
        return available[0]
    device = "cuda:0" if name == "cuda" else name
    if device not in available:
        raise ConfigError.of(
            "model.device",
            f"{name!r} is not available on this machine; use one of auto, {', '.join(available)}",
        )
    return device


@dataclass(frozen=True)
class WorkerDevice:
    """The device of workers on other machines, which a plan is made for.

    Attributes:
        kind: `cuda` or `cpu`; None for what this machine has.
        gpus: how many a worker sees; None where that is unknown.
        memory: bytes of one of them that a worker may use; None where that is unknown.
        cure: what to change for a worker with a GPU.
    """

    kind: str | None
    gpus: int | None = None
    memory: int | None = None
    cure: str = "use a launcher whose workers have one"

    def resolve(self, name: str) -> str:
        """Return the kind that `model.device` names there.

        Raises:
            ConfigError: workers have no such device.
        """
        if self.kind is None:
            return resolve_device(name).partition(":")[0]
        if name in ("auto", "cpu", self.kind):
            return "cpu" if name == "cpu" else self.kind
        if name == "cuda":
            problem = f"the workers have no GPU; {self.cure}, or leave model.device out"
        elif name.startswith("cuda:"):
            problem = "a worker sees only its own GPUs; leave model.device out"
        else:
            problem = f"workers have {self.kind}; leave model.device out"
        raise ConfigError.of(f"model.device={name}", problem)


_ELSEWHERE = "device of the workers"


def plan_for(device: WorkerDevice | None, once: Once) -> None:
    """Make the plan whose values `once` remembers for workers with this device; None for this machine."""
    once(_ELSEWHERE, lambda: device)


def worker_device(once: Once) -> WorkerDevice | None:
    """Return the device that a plan is made for, where it is not this machine's."""
    device: WorkerDevice | None = once(_ELSEWHERE, lambda: None)
    return None if device is None or device.kind is None else device


def planned_gpus(once: Once) -> int | None:
    """Return how many GPUs a process sees, here, or where the plan is run; None where that is unknown."""
    device: WorkerDevice | None = once(_ELSEWHERE, lambda: None)
    here = sum(name.startswith("cuda") for name in devices())
    if device is None:
        return here
    return min(here, device.gpus or here) if device.kind is None else device.gpus


def planned_device(name: str, once: Once) -> str:
    """Return the kind of device that `model.device` names, here, or where the plan is run.

    Raises:
        ConfigError: there is no such device.
    """

    def kind() -> str:
        device = worker_device(once) or WorkerDevice(None)
        return device.resolve(name)

    return once(("device", name), kind)


def is_here(device: str) -> bool:
    """Return whether this machine has a device of this kind."""
    return device.partition(":")[0] in {name.partition(":")[0] for name in devices()}


def check_attention(attention: str, device: str, dtype: str) -> None:
    """Check that an attention implementation can run here.

    Raises:
        ConfigError: it cannot; with those that can.
    """
    if attention != "flash_attention_2":
        return
    if not device.startswith("cuda"):
        problem = f"needs a CUDA device, this is {device}; use sdpa or eager"
    elif importlib.util.find_spec("flash_attn") is None:
        problem = "needs the package flash-attn, which is not installed; use sdpa"
    elif dtype == "float32":
        problem = "runs in half precision only; set quantization=bf16, or use sdpa"
    else:
        return
    raise ConfigError.of("model.attention", f"flash_attention_2 {problem}")


def device_name(device: str) -> str:
    """Return the name of the GPU or the processor."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name()


def cpu_threads() -> int:
    """Return how many threads this process is to use: OMP_NUM_THREADS, else the CPUs that it may run on.

    These are limited by its affinity (`taskset`, workers), by what SLURM gives a task (SLURM_CPUS_PER_TASK,
    else the job's CPUs on the node), and by the quota of its cgroup (containers).
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return int(first)
    limit = _slurm_number("SLURM_CPUS_PER_TASK") or _slurm_number("SLURM_CPUS_ON_NODE") or math.inf
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cpus, cpu_quota(), limit)))


def slurm_memory() -> int | None:
    """Return the bytes that SLURM gives a job on its node; None outside a job, or without a limit."""
    per_node = _slurm_number("SLURM_MEM_PER_NODE")  # in MiB, as all of SLURM's
    per_cpu = _slurm_number("SLURM_MEM_PER_CPU") * (_slurm_number("SLURM_CPUS_ON_NODE") or 1)
    return (per_node or per_cpu) * 2**20 or None


def shares_its_node() -> bool:
    """Return whether this process has but some of its node's CPUs, beside other jobs of SLURM or Ray."""
    return os.environ.get(SHARES_NODE) == "1" or 0 < _slurm_number("SLURM_CPUS_ON_NODE") < (
        os.cpu_count() or 1
    )


def _slurm_number(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() else 0


def cpu_quota(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the CPUs' worth of time that the process's cgroup and those around it allow; inf for no limit.

    Args:
        mounted: where cgroups are mounted, of version 2 or 1.
        own: names the process's cgroup by version and controller.
    """
    quota = math.inf
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = mounted / "cpu" if controllers else mounted
            # In a container its own cgroup is the top one, whatever its name outside.
            inner = top / name.lstrip("/")
            for folder in (top, inner, *inner.parents):
                quota = min(quota, _quota_of(folder))
    return quota


def _quota_of(folder: Path) -> float:
    """Return the quota of one cgroup in CPUs; inf where it has none."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = (folder / "cpu.max").read_text().split()
        return float(limit) / float(period) if limit != "max" else math.inf
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(limit) / float(period) if float(limit) > 0 else math.inf
    return math.inf


@cache
def cpu_name() -> str:
    """Return the processor's model name, as far as the system reports it."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE):
            return match[1].strip()
    return platform.processor() or platform.machine()
