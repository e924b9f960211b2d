"""Which device a model runs on."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from functools import cache
from importlib import metadata
from typing import Any

from harness.errors import ConfigError


def devices() -> tuple[str, ...]:
    """The devices of this machine, the preferred one first: every `cuda:N`, `mps`, `cpu`.

    Torch is asked where it is loaded anyway; otherwise the drivers are, since importing torch takes
    seconds and a plan needs only to know what there is.
    """
    if "torch" in sys.modules:
        import torch

        found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        return (*found, *(["mps"] if torch.backends.mps.is_available() else []), "cpu")
    found = [f"cuda:{index}" for index in range(_cuda_devices())]
    return (*found, *(["mps"] if sys.platform == "darwin" and platform.machine() == "arm64" else []), "cpu")


def _cuda_devices() -> int:
    """How many GPUs the CUDA driver shows this process; none for a torch that was built without CUDA."""
    driver, count = _driver(), ctypes.c_int(0)
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def gpu_bytes(device: str) -> int:
    """The whole memory of `cuda` or `cuda:N` as the driver tells it; 0 where it does not."""
    driver, handle, size = _driver(), ctypes.c_int(0), ctypes.c_size_t(0)
    index = int(device.partition(":")[2] or 0)
    if driver is None or driver.cuDeviceGet(ctypes.byref(handle), index) != 0:
        return 0
    return size.value if driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle) == 0 else 0


def _driver() -> Any:
    """The CUDA driver, initialised; None where there is none, or torch was built without CUDA."""
    if metadata.version("torch").endswith("+cpu"):
        return None
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return driver if driver.cuInit(0) == 0 else None
    except (OSError, AttributeError):
        return None


def resolve_device(asked: str) -> str:
    """The device that `model.device` names: `auto` is the first of cuda, mps, cpu; `cuda` is `cuda:0`.

    Raises:
        ConfigError: no such device here; says which there are.
    """
    there = devices()
    if asked == "auto":
        return there[0]
    wanted = "cuda:0" if asked == "cuda" else asked
    if wanted in there:
        return wanted
    offer = f"there are: auto, {', '.join(there)}"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", asked):
        raise ConfigError.of("model.device", f"{asked!r} is no device; {offer}")
    raise ConfigError.of("model.device", f"{asked!r} is not on this machine; {offer}")


def device_name(device: str) -> str:
    """What the device calls itself: the GPU's or the processor's name."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return cpu_name()


@cache
def cpu_name() -> str:
    """The processor's model name, as well as this system tells it."""
    from pathlib import Path

    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    named = re.search(r"^model name\s*:\s*(.+)$", told, flags=re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()
