"""The devices of this machine, and the one that a model runs on."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.errors import ConfigError


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


def device_name(device: str) -> str:
    """Return the name of the GPU or the processor."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name()


@cache
def cpu_name() -> str:
    """Return the processor's model name, as far as the system reports it."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE):
            return match[1].strip()
    return platform.processor() or platform.machine()
