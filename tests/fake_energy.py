"""Energy counters without hardware: a module that answers like pynvml, and a folder like Linux's powercap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class FakeNvml:
    """A module pynvml with one GPU, whose counter follows `true_joules` in steps of `step` seconds.

    Attributes:
        pids: of the processes that NVML lists.
        busy: utilization in percent.
        mig: its MIG mode; None where the GPU knows none.
        has_counter: whether the GPU counts energy.
    """

    class NVMLError(Exception):
        pass

    class NVMLError_NotFound(NVMLError):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    def __init__(
        self,
        true_joules: Callable[[float], float] = lambda now: 0.0,
        clock: Callable[[], float] = lambda: 0.0,
        step: float = 0.1,
        uuid: str = "GPU-1234",
    ) -> None:
        self._true, self._clock, self._step, self._uuid = true_joules, clock, step, uuid
        self.pids: list[int] = []
        self.busy = 0
        self.mig: int | None = 0
        self.has_counter = True
        self.since_driver = 5e9  # mJ

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != self._uuid:
            raise self.NVMLError_NotFound("Not Found")
        return uuid

    def nvmlDeviceGetName(self, gpu: str) -> bytes:
        return b"Fake A100"

    def nvmlDeviceGetMigMode(self, gpu: str) -> list[int]:
        if self.mig is None:
            raise self.NVMLError_NotSupported("Not Supported")
        return [self.mig, self.mig]

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: str) -> int:
        if not self.has_counter:
            raise self.NVMLError_NotSupported("Not Supported")
        moved = self._clock() // self._step * self._step
        return int(self.since_driver + 1e3 * self._true(moved))

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: str) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in self.pids]

    def nvmlDeviceGetUtilizationRates(self, gpu: str) -> Any:
        return SimpleNamespace(gpu=self.busy, memory=0)


def write_zone(folder: Path, zone: str, name: str, microjoules: int, span: int = 262_143_328_850) -> Path:
    """Write a RAPL zone as Linux shows it; return the file of its counter."""
    place = folder / zone
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{span}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    return place / "energy_uj"
