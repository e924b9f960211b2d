"""NVML: the energy that whole GPUs have used, in millijoules since the driver was loaded.

The counter moves in steps of 20 to 100 ms, and counts the board with all who use it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

from harness.models.energy import NoEnergyError

INSTALL = "needs the package nvidia-ml-py; pip install 'decoding-harness[energy]'"


def open_nvml(devices: Sequence[str]) -> NvmlMeter:
    """Open the counters of CUDA devices of this process.

    Raises:
        NoEnergyError: they cannot be read.
    """
    import torch

    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        raise NoEnergyError(f"the energy of a GPU {INSTALL}") from None
    return NvmlMeter(nvml, [str(torch.cuda.get_device_properties(name).uuid) for name in devices])


class NvmlMeter:
    """The energy of some GPUs together; an `EnergyMeter`."""

    def __init__(self, nvml: Any, uuids: Sequence[str]) -> None:
        """Read the counters for the first time.

        Args:
            nvml: the module pynvml.
            uuids: of the GPUs, without a prefix.

        Raises:
            NoEnergyError: NVML does not work, a GPU is divided (MIG) or has no counter.
        """
        self._nvml = nvml
        try:
            nvml.nvmlInit()
            self._gpus = [self._whole_gpu(uuid) for uuid in uuids]
            names = [_text(nvml.nvmlDeviceGetName(gpu)) for gpu in self._gpus]
        except nvml.NVMLError as error:
            raise NoEnergyError(f"NVML does not work here ({error})") from None
        self.source = f"NVML ({', '.join(names)})"
        self._last = self._read()
        self._millijoules = 0

    def joules(self) -> float:
        """Return the energy since the meter was opened."""
        reading = self._read()
        for before, now in zip(self._last, reading, strict=True):
            if now < before:
                raise NoEnergyError("the GPU's counter was reset meanwhile, as by loading the driver again")
            self._millijoules += now - before
        self._last = reading
        return self._millijoules / 1e3

    def check_alone(self, *, idle: bool = False) -> None:
        """Check that no other process has work on the GPUs, and with `idle` that they have nothing to do."""
        nvml, own = self._nvml, _own_processes()
        for gpu in self._gpus:
            try:
                listed = {one.pid for one in nvml.nvmlDeviceGetComputeRunningProcesses(gpu)}
                busy = int(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu) if idle else 0
            except nvml.NVMLError as error:
                raise NoEnergyError(f"NVML does not tell who uses the GPU ({error})") from None
            # In a container processes have other numbers; one that is not known here is then this one.
            others = len(listed - own) if listed & own else len(listed) - 1
            if others > 0:
                also = "another process uses" if others == 1 else f"{others} other processes use"
                raise NoEnergyError(f"{also} the GPU, and its counter is that of all")
            if busy:
                raise NoEnergyError(
                    f"somebody else keeps {busy}% of the GPU busy, and its counter is that of all"
                )

    def _whole_gpu(self, uuid: str) -> Any:
        nvml = self._nvml
        try:
            gpu = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except nvml.NVMLError_NotFound:
            nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
            divided = True
        else:
            try:
                divided = nvml.nvmlDeviceGetMigMode(gpu)[0] == 1
            except nvml.NVMLError_NotSupported:
                divided = False
        if divided:
            raise NoEnergyError("the GPU is divided (MIG), and its counter is that of all parts")
        return gpu

    def _read(self) -> list[int]:
        try:
            return [int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) for gpu in self._gpus]
        except self._nvml.NVMLError as error:
            raise NoEnergyError(f"this GPU has no energy counter ({error}); those since Volta do") from None


def _own_processes() -> set[int]:
    """Return the numbers of this process and of those that it started, as the ranks of a split model."""
    import psutil

    return {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
