"""The energy of decoding, batch by batch: nothing where no counter of the device can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from harness.artifacts.measure_cost import WINDOW_S
from harness.backends.backend import Backend
from harness.backends.costing import MeteredBackend
from harness.models.energy import EnergyMeter, NoEnergyError


class BatchEnergy:
    """Reads the counter of a backend's device around each of its batches."""

    def __init__(self, backend: Backend) -> None:
        """Open the counter, where there is one."""
        self._meter: EnergyMeter | None = None
        self._before = 0.0
        if isinstance(backend, MeteredBackend):
            with suppress(NoEnergyError):
                self._meter = backend.energy_meter(alone=False)

    def start(self) -> None:
        """Note that a batch begins."""
        self._before = self._joules() or 0.0

    def stop(self) -> float | None:
        """Return the energy since `start` in joules; None where it is not known."""
        after = self._joules()
        try:
            if self._meter is not None:
                self._meter.check_alone()
        except NoEnergyError:
            return None
        return None if after is None else after - self._before

    def _joules(self) -> float | None:
        if self._meter is None:
            return None
        try:
            return self._meter.joules()
        except NoEnergyError:
            return None


def energy_of_batches(costs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the energy of all batches; None where that of one is not known, or they took too short a time.

    A counter moves in steps, so that of less than WINDOW_S in all too little is known.
    """
    joules = [cost.get("joules") for cost in costs]
    seconds = sum(cost["decode_seconds"] for cost in costs)
    known = [value for value in joules if value is not None]
    return sum(known) if known and len(known) == len(joules) and seconds >= WINDOW_S else None
