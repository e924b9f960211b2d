"""What a model costs on a CUDA device: memory in order, the device's times, energy of the board."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from harness.artifacts.measure_cost import Measuring
from harness.backends.costing import CostShape
from harness.backends.hf.backend import HfBackend
from harness.models.energy import NoEnergyError

SHAPE = CostShape(prompt_tokens=32, new_tokens=16, batch_size=2)


def test_times_and_memory(on_device: Any) -> None:
    backend = HfBackend(on_device("llama"))
    backend.run_model(SHAPE, 16)
    started = time.perf_counter()
    runs = backend.run_model(SHAPE, 16, 3)
    took = time.perf_counter() - started
    # What the device counted is what passed by the clock, but for what is between runs.
    assert 0.5 * took < sum(run.prefill + run.decode for run in runs) <= 1.02 * took
    assert all(len(run.tokens) == 15 and min(run.tokens) > 0 for run in runs)
    memory = backend.peak_memory(SHAPE)
    assert memory.used
    if backend.loaded.device.startswith("cuda"):
        assert memory.allocated
        assert memory.reserved
        assert memory.allocated <= memory.reserved <= memory.used


@pytest.mark.only_cuda
def test_energy_is_the_mean_power_over_the_time(on_device: Any) -> None:
    """Power is read beside, as NVML tells it, while the same runs go on."""
    pynvml = pytest.importorskip("pynvml")
    backend = HfBackend(on_device("llama"))
    watts: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        while not ended.wait(0.1):
            watts.append(pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3)

    try:
        meter = backend.energy_meter()
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            energy = Measuring(backend, SHAPE).energy(meter)
        finally:
            ended.set()
            watcher.join()
    except NoEnergyError as error:
        pytest.skip(str(error))
    # Both windows together, without the 3 s before; power is a mean of the last second on most GPUs.
    joules, seconds = (
        getattr(energy.prefill, name) + getattr(energy.generate, name) for name in ("joules", "seconds")
    )
    busy = watts[40:]
    assert joules / seconds == pytest.approx(sum(busy) / len(busy), rel=0.1)
    assert 0 < energy.idle_watts < joules / seconds
