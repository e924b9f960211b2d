"""Which device a model runs on."""

from __future__ import annotations

import re

from harness.errors import ConfigError


def devices() -> tuple[str, ...]:
    """The devices of this machine, the preferred one first: every `cuda:N`, `mps`, `cpu`."""
    import torch

    found = (
        [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


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


def cpu_name() -> str:
    """The processor's model name, as well as this system tells it."""
    import platform
    from pathlib import Path

    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    named = re.search(r"^model name\s*:\s*(.+)$", told, flags=re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()
