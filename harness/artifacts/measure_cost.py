"""Measure what a model costs: warm up, time, then memory and energy in passes of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.errors import one_line
from harness.models.energy import EnergyMeter, NoEnergyError

if TYPE_CHECKING:
    from harness.analysis.model_cost import EnergyWindow, MeasuredEnergy
    from harness.backends.costing import CostedBackend, CostRun, CostShape
    from harness.config.point import Timing

IDLE_S = 3.0
"""The counter is watched for so long before anything is run: idle power, and how often it moves."""
WINDOW_S = 10.0
STEPS = 100
"""A window is as many steps of the counter long, so that one step more or less is a hundredth."""
SLOWEST_STEP_S = 1.0
_LOOK_S = 0.005

Shown = Callable[[float], None]
"""Called with the part of the work that is done, 0 to 1."""


class Measuring:
    """The passes over one model; `clock` and `sleep` are those of the system but in tests."""

    def __init__(
        self,
        backend: CostedBackend,
        shape: CostShape,
        show: Shown = lambda part: None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._backend, self._shape, self._show = backend, shape, show
        self._clock, self._sleep = clock, sleep

    def cost(self, timing: Timing, open_meter: Callable[[], EnergyMeter]) -> dict[str, Any]:
        """Return what cost.json holds of the model: `latency`, `memory` and `energy`.

        Args:
            timing: how often and how long.
            open_meter: opens the energy counter of the device, or raises NoEnergyError.
        """
        from harness.analysis.model_cost import energy_json

        found: dict[str, Any] = {"latency": self._latency(timing), "memory": None, "energy": None}
        if timing.memory:
            found["memory"] = asdict(self._backend.peak_memory(self._shape))
        if timing.energy == "auto":
            try:
                energy: MeasuredEnergy | str = self.energy(open_meter())
            except NoEnergyError as error:
                energy = one_line(error)
            found["energy"] = energy_json(energy)
        self._show(1.0)
        return found

    def energy(self, meter: EnergyMeter) -> MeasuredEnergy:
        """Return the energy of prefills and of whole runs.

        Raises:
            NoEnergyError: somebody else uses the device, or the counter does not do.
        """
        from harness.analysis.model_cost import MeasuredEnergy

        watts, step = self._idle(meter)
        meter.check_alone(idle=True)
        seconds = max(WINDOW_S, STEPS * step)
        prefill = self._window(meter, 1, seconds)
        self._show(0.75)
        generate = self._window(meter, self._shape.new_tokens, seconds)
        meter.check_alone()
        return MeasuredEnergy(meter.source, watts, step, prefill, generate)

    def _latency(self, timing: Timing) -> dict[str, Any]:
        from harness.analysis.model_cost import latency_json

        backend, shape = self._backend, self._shape
        backend.run_model(shape, shape.new_tokens)
        backend.run_model(shape, min(2, shape.new_tokens), timing.warmup)
        runs: list[CostRun] = []
        started = self._clock()
        while len(runs) < timing.repeats or self._clock() - started < timing.min_seconds:
            runs += backend.run_model(shape, shape.new_tokens)
            part = (self._clock() - started) / (timing.min_seconds or 1.0)
            self._show(0.5 * min(len(runs) / timing.repeats, part, 1.0))
        return latency_json(
            [run.prefill for run in runs], [run.decode for run in runs], [run.tokens for run in runs]
        )

    def _idle(self, meter: EnergyMeter) -> tuple[float, float]:
        """Return the watts of the waiting device, and the seconds between steps of its counter."""
        meter.joules()
        started = self._clock()
        steps: list[tuple[float, float]] = []
        while self._clock() - started < IDLE_S:
            self._sleep(_LOOK_S)
            joules = meter.joules()
            if joules > (steps[-1][1] if steps else 0.0):
                steps.append((self._clock(), joules))
        if len(steps) < 1 + IDLE_S / SLOWEST_STEP_S:
            raise NoEnergyError(f"the counter moved {len(steps) or 'no'} times in {IDLE_S:.0f} s: too coarse")
        (first, before), (last, after) = steps[0], steps[-1]
        return (after - before) / (last - first), (last - first) / (len(steps) - 1)

    def _window(self, meter: EnergyMeter, new_tokens: int, seconds: float) -> EnergyWindow:
        """Run batches for some seconds; each ends when the device is idle."""
        from harness.analysis.model_cost import EnergyWindow

        before, started, runs = meter.joules(), self._clock(), 0
        looked = started
        while (now := self._clock()) - started < seconds:
            self._backend.run_model(self._shape, new_tokens)
            runs += 1
            if now - looked > 1.0:  # RAPL wraps around
                meter.joules()
                looked = now
        return EnergyWindow(runs, self._clock() - started, meter.joules() - before)
