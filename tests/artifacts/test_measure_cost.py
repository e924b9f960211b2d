"""The passes over a model, in a world whose clock and power are known."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_energy import FakeNvml, write_zone

from harness.analysis.model_cost import cost_metrics
from harness.artifacts.batch_energy import BatchEnergy, energy_of_batches
from harness.artifacts.measure_cost import Measuring
from harness.backends.costing import CostRun, CostShape, PeakMemory
from harness.config.timing_section import Timing
from harness.models.energy import EnergyMeter, NoEnergyError
from harness.models.nvml_meter import NvmlMeter
from harness.models.rapl_meter import RaplMeter

SHAPE = CostShape(prompt_tokens=8, new_tokens=5, batch_size=1)
IDLE_W, PREFILL_W, DECODE_W = 60.0, 300.0, 140.0
PREFILL_S, DECODE_S = 0.4, 0.2  # of a prompt, of a token


class World:
    """A device with a model: time passes when something is run or waits, and power is used meanwhile."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._used = [(0.0, 0.0), (1000.0, 60_000.0)]
        self.calls: list[tuple[int, int]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.spend(seconds, IDLE_W)

    def spend(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self._used.append((self.now, self._used[-1][1] + seconds * watts))

    def joules(self, now: float) -> float:
        before = next(i for i in range(len(self._used) - 1, -1, -1) if self._used[i][0] <= now)
        (start, used), (end, then) = (self._used[before], self._used[min(before + 1, len(self._used) - 1)])
        return used + (then - used) * (now - start) / (end - start) if end > start else used

    # A costing.CostedBackend.
    def run_model(self, shape: CostShape, new_tokens: int, count: int = 1) -> list[CostRun]:
        self.calls.append((new_tokens, count))
        for _ in range(count):
            self.spend(PREFILL_S, PREFILL_W)
            self.spend(DECODE_S * (new_tokens - 1), DECODE_W)
        run = CostRun(PREFILL_S, DECODE_S * (new_tokens - 1), (DECODE_S,) * (new_tokens - 1))
        return [run] * count

    def peak_memory(self, shape: CostShape) -> PeakMemory:
        self.calls.append((-1, 1))
        return PeakMemory(None, None, 123.0)

    def energy_meter(self, *, alone: bool = True) -> EnergyMeter:
        raise NoEnergyError("made up")

    def measuring(self) -> Measuring:
        return Measuring(self, SHAPE, clock=self.clock, sleep=self.sleep)

    def nvml(self, step: float = 0.1) -> tuple[FakeNvml, NvmlMeter]:
        module = FakeNvml(self.joules, self.clock, step)
        module.pids = [os.getpid()]
        return module, NvmlMeter(module, ["1234"])


def timing(**more: Any) -> Timing:
    return Timing(name="llm_perf", prompt_tokens=8, new_tokens=5, repeats=3, warmup=2, **more)  # type: ignore[call-arg]


@pytest.mark.parametrize(("seconds", "runs"), [(0.0, 3), (3.5, 3), (10.0, 9)])
def test_runs_go_on_until_there_are_enough_and_for_long_enough(seconds: float, runs: int) -> None:
    world = World()
    found = world.measuring().cost(
        timing(min_seconds=seconds, memory=False, energy="none"), world.energy_meter
    )
    assert world.calls[:2] == [(5, 1), (2, 2)], "warmed up by a whole run and short ones"
    assert world.calls[2:] == [(5, 1)] * runs
    assert found["latency"]["prefill"]["p50"] == pytest.approx(PREFILL_S)
    assert found["latency"]["decode"]["mean"] == pytest.approx(4 * DECODE_S)
    assert len(found["latency"]["decode"]["values"]) == runs
    assert (found["memory"], found["energy"]) == (None, None)


def test_memory_is_a_pass_of_its_own_and_energy_says_why_there_is_none() -> None:
    world = World()
    found = world.measuring().cost(timing(min_seconds=0.0), world.energy_meter)
    assert world.calls[-1] == (-1, 1)
    assert found["memory"] == {"allocated": None, "reserved": None, "used": 123.0}
    assert found["energy"] == {"source": None, "reason": "made up"}


@pytest.mark.parametrize("step", [0.02, 0.1, 0.5])
def test_energy_is_that_of_the_world_though_the_counter_moves_in_coarse_steps(step: float) -> None:
    world = World()
    _, meter = world.nvml(step)
    energy = world.measuring().energy(meter)
    assert energy.idle_watts == pytest.approx(IDLE_W, rel=0.01)
    assert energy.step_seconds == pytest.approx(step, rel=0.05)
    for window in (energy.prefill, energy.generate):
        assert window.seconds >= max(10.0, 100 * energy.step_seconds)
    prefill, generate = (w.joules / w.runs for w in (energy.prefill, energy.generate))
    assert prefill == pytest.approx(PREFILL_S * PREFILL_W, rel=0.02)
    assert generate == pytest.approx(PREFILL_S * PREFILL_W + 4 * DECODE_S * DECODE_W, rel=0.02)
    found = world.measuring().cost(timing(min_seconds=0.0), lambda: meter)
    metrics = cost_metrics({"shape": vars(SHAPE), **found})
    assert metrics["cost/energy_j_per_token"] == pytest.approx(DECODE_S * DECODE_W, rel=0.05)
    assert metrics["cost/tokens_per_kwh"] == pytest.approx(3.6e6 / 28, rel=0.05)


def test_rapl_wraps_around_within_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, span = World(), 1_500_000_000  # 1.5 kJ, less than a window of 10 s at 300 W
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0, span)
    honest, read = Path.read_text, []

    def counter(path: Path, *args: Any, **more: Any) -> str:
        if path.name != "energy_uj":
            return honest(path, *args, **more)
        read.append(int(1e6 * world.joules(world.now)) % span)
        return f"{read[-1]}\n"

    monkeypatch.setattr(Path, "read_text", counter)
    monkeypatch.setattr("harness.models.rapl_meter.MOST_WATTS", 500.0)
    energy = world.measuring().energy(RaplMeter(tmp_path, world.clock))
    assert sum(after < before for before, after in pairwise(read)) >= 2
    assert energy.prefill.joules == pytest.approx(energy.prefill.runs * PREFILL_S * PREFILL_W, rel=1e-3)
    assert energy.generate.joules / energy.generate.runs == pytest.approx(232.0, rel=1e-3)


def test_a_counter_that_stands_still_or_moves_too_seldom() -> None:
    world = World()
    for step, times in ((50.0, "no"), (1.6, r"\d")):
        with pytest.raises(NoEnergyError, match=f"moved {times} times in 3 s"):
            world.measuring().energy(world.nvml(step)[1])


def test_a_process_that_comes_meanwhile_leaves_no_number() -> None:
    world = World()
    module, meter = world.nvml()
    honest = world.run_model

    def visited(shape: CostShape, new_tokens: int, count: int = 1) -> list[CostRun]:
        module.pids = [os.getpid(), 1]
        return honest(shape, new_tokens, count)

    world.run_model = visited  # type: ignore[method-assign]
    found = world.measuring().cost(timing(min_seconds=0.0), lambda: meter)
    assert found["energy"] == {
        "source": None,
        "reason": "another process uses the GPU, and its counter is that of all",
    }
    module.pids, module.busy = [os.getpid()], 80
    with pytest.raises(NoEnergyError, match="80% of the GPU busy"):
        world.measuring().energy(meter)


class Metered:
    """A backend whose device has a counter."""

    def __init__(self, meter: EnergyMeter | None) -> None:
        self._meter = meter

    def energy_meter(self, *, alone: bool = True) -> EnergyMeter:
        if self._meter is None:
            raise NoEnergyError("there is none")
        return self._meter


def test_energy_of_batches() -> None:
    world = World()
    module, meter = world.nvml()
    energy = BatchEnergy(Metered(meter))  # type: ignore[arg-type]
    costs = []
    for seconds in (4.0, 7.0):
        world.sleep(30.0)  # what is used between batches is not theirs
        energy.start()
        world.spend(seconds, DECODE_W)
        costs.append({"joules": energy.stop(), "decode_seconds": seconds})
    assert energy_of_batches(costs) == pytest.approx(11.0 * DECODE_W, rel=0.02)
    assert energy_of_batches(costs[:1]) is None, "too short for a counter that moves in steps"
    module.pids = [os.getpid(), 1]
    energy.start()
    assert energy.stop() is None
    assert energy_of_batches([*costs, {"decode_seconds": 9.0}]) is None, "one of a batch is not known"


def test_without_a_counter_nothing_is_read() -> None:
    for backend in (Metered(None), object()):
        energy = BatchEnergy(backend)  # type: ignore[arg-type]
        energy.start()
        assert energy.stop() is None
    assert energy_of_batches([]) is None
