"""Energy counters against fakes: wrap-around, coarse steps, missing rights, other processes, MIG."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_energy import FakeNvml, write_zone

from harness.models.energy import NoEnergyError
from harness.models.energy_meters import energy_meter
from harness.models.nvml_meter import NvmlMeter, open_nvml
from harness.models.rapl_meter import RaplMeter

SPAN = 262_143_328_850  # microjoules, of a Xeon


def test_packages_and_their_memory_are_summed_and_parts_of_a_package_are_not(tmp_path: Path) -> None:
    first = write_zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    core = write_zone(tmp_path, "intel-rapl:0:0", "core", 0)
    memory = write_zone(tmp_path, "intel-rapl:0:1", "dram", 7)
    second = write_zone(tmp_path, "intel-rapl:1", "package-1", 5)
    psys = write_zone(tmp_path, "intel-rapl:2", "psys", 0)
    mmio = write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
    meter = RaplMeter(tmp_path)
    assert meter.source == "RAPL (package-0, dram, package-1)"
    assert meter.joules() == 0.0
    first.write_text("3500000\n")
    memory.write_text("250007\n")
    second.write_text("1000005\n")
    for counted_elsewhere in (core, psys, mmio):
        counted_elsewhere.write_text("900000000\n")
    assert meter.joules() == pytest.approx(2.5 + 0.25 + 1.0)
    assert meter.joules() == pytest.approx(3.75), "nothing was used since"


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", SPAN - 2_000_000, SPAN)
    meter = RaplMeter(tmp_path)
    counter.write_text("1500000\n")
    assert meter.joules() == pytest.approx(3.5)
    counter.write_text(f"{SPAN - 500_000}\n")
    counter.read_text()
    assert meter.joules() == pytest.approx(3.5 + (SPAN - 2_000_000) / 1e6)
    counter.write_text("0\n")
    assert meter.joules() == pytest.approx(SPAN / 1e6 + 2.0)


def test_a_counter_that_may_have_wrapped_twice_is_no_number(tmp_path: Path) -> None:
    now = [0.0]
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0, SPAN)
    meter = RaplMeter(tmp_path, lambda: now[0])
    now[0] = 262.0
    meter.joules()
    now[0] += 263.0  # at 1000 W it wraps around once in 262.1 s
    with pytest.raises(NoEnergyError, match="not read for over 262 s"):
        meter.joules()


def test_without_rights_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters are of mode 0400 since 2020; the tests may run as root, who reads them all the same."""
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0).chmod(0o400)
    honest = Path.read_text

    def refused(path: Path, *args: object, **more: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return honest(path, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(NoEnergyError, match=r"only root .*sudo chmod a\+r /sys/class/powercap/intel-rapl:\*"):
        RaplMeter(tmp_path)


def test_no_counters_and_damaged_ones(tmp_path: Path) -> None:
    with pytest.raises(NoEnergyError, match="no RAPL counters"):
        RaplMeter(tmp_path / "nothing")
    write_zone(tmp_path, "intel-rapl:0", "psys", 0)
    with pytest.raises(NoEnergyError, match="no RAPL counters"):
        RaplMeter(tmp_path)
    counter = write_zone(tmp_path, "intel-rapl:1", "package-0", 0)
    meter = RaplMeter(tmp_path)
    counter.write_text("")
    with pytest.raises(NoEnergyError, match="holds no number"):
        meter.joules()
    counter.unlink()
    with pytest.raises(NoEnergyError, match="cannot be read"):
        meter.joules()


def test_a_processor_that_others_use_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_WORKERS_ON_DEVICE", "2")
    with pytest.raises(NoEnergyError, match="others may use this node"):
        energy_meter("cpu", alone=False)
    monkeypatch.setenv("HARNESS_SHARES_NODE", "1")
    with pytest.raises(NoEnergyError, match="others may use this node"):
        energy_meter("cpu")
    with pytest.raises(NoEnergyError, match="mps"):
        energy_meter("mps")


def test_millijoules_since_the_meter_was_opened() -> None:
    now = [1.0]
    meter = NvmlMeter(FakeNvml(lambda t: 70.0 * t, lambda: now[0], 0.125), ["1234"])
    assert meter.source == "NVML (Fake A100)"
    now[0] = 3.55  # the counter moves each 0.125 s
    assert meter.joules() == pytest.approx(70.0 * 2.5)


def test_several_gpus_are_summed() -> None:
    class Two(FakeNvml):
        def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
            return uuid

    now = [0.0]
    nvml = Two(lambda t: 50.0 * t, lambda: now[0], 0.125)
    meter = NvmlMeter(nvml, ["a", "b"])
    now[0] = 2.0
    assert meter.joules() == pytest.approx(200.0)
    assert meter.source == "NVML (Fake A100, Fake A100)"


def test_a_driver_that_was_loaded_again() -> None:
    nvml = FakeNvml()
    meter = NvmlMeter(nvml, ["1234"])
    nvml.since_driver = 0
    with pytest.raises(NoEnergyError, match="reset"):
        meter.joules()


def test_gpus_that_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    old = FakeNvml()
    old.has_counter = False
    with pytest.raises(NoEnergyError, match="no energy counter"):
        NvmlMeter(old, ["1234"])
    divided = FakeNvml()
    divided.mig = 1
    with pytest.raises(NoEnergyError, match="MIG"):
        NvmlMeter(divided, ["1234"])
    with pytest.raises(NoEnergyError, match="MIG"):
        NvmlMeter(FakeNvml(uuid="MIG-1234"), ["1234"])
    without_mig = FakeNvml()
    without_mig.mig = None
    assert NvmlMeter(without_mig, ["1234"]).joules() == 0.0
    with pytest.raises(NoEnergyError, match="Not Found"):
        NvmlMeter(FakeNvml(), ["of another machine"])
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoEnergyError, match=r"pip install 'decoding-harness\[energy\]'"):
        open_nvml(["cuda:0"])


@pytest.fixture
def child() -> Iterator[int]:
    """The number of a process that this one started, as the ranks of a split model are."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def test_who_else_uses_the_gpu(child: int) -> None:
    nvml = FakeNvml()
    meter = NvmlMeter(nvml, ["1234"])
    own, stranger = os.getpid(), 1
    for pids in ([], [own], [own, child], [stranger]):
        # A single one that is not known: in a container NVML has other numbers than we see.
        nvml.pids = pids
        meter.check_alone(idle=True)
    nvml.pids = [own, stranger]
    with pytest.raises(NoEnergyError, match="another process uses the GPU"):
        meter.check_alone()
    nvml.pids = [stranger, 2, 3]
    with pytest.raises(NoEnergyError, match="2 other processes use the GPU"):
        meter.check_alone()
    nvml.pids, nvml.busy = [own], 35
    meter.check_alone()  # this process may be what keeps it busy
    with pytest.raises(NoEnergyError, match="35% of the GPU busy"):
        meter.check_alone(idle=True)
