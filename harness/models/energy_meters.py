"""The energy counter of a device, where it has one that can be read."""

from __future__ import annotations

import os

from harness.models.device import shares_its_node
from harness.models.energy import EnergyMeter, NoEnergyError
from harness.models.memory import WORKERS_ON_DEVICE
from harness.models.nvml_meter import open_nvml
from harness.models.rapl_meter import RaplMeter


def energy_meter(device: str, count: int = 1, *, alone: bool = True) -> EnergyMeter:
    """Open the counter of a device.

    Args:
        device: as `cuda:0`, `cpu`, `mps`.
        count: how many GPUs compute, the first ones where there are several.
        alone: whether other workers wait while it is read.

    Raises:
        NoEnergyError: it has none that can be read here.
    """
    if device.startswith("cuda"):
        return open_nvml([device] if count == 1 else [f"cuda:{index}" for index in range(count)])
    if device != "cpu":
        raise NoEnergyError(f"no energy counter of {device} is read")
    others = not alone and int(os.environ.get(WORKERS_ON_DEVICE) or 1) > 1
    if others or shares_its_node():
        raise NoEnergyError("others may use this node meanwhile, and the processor's counter is that of all")
    return RaplMeter()
