"""Devices: what `auto` means, and the mistake when one is not available."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.models import device
from harness.models.device import (
    WorkerDevice,
    cpu_name,
    cpu_quota,
    cpu_threads,
    plan_for,
    planned_device,
    planned_gpus,
    resolve_device,
    worker_device,
)
from harness.once import Once


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for available in (("cuda:0", "cuda:1", "mps", "cpu"), ("mps", "cpu"), ("cpu",)):
        monkeypatch.setattr(device, "devices", lambda available=available: available)
        assert resolve_device("auto") == available[0]
        assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(device, "devices", lambda: ("cuda:0", "cuda:1", "cpu"))
    assert (resolve_device("cuda"), resolve_device("cuda:1")) == ("cuda:0", "cuda:1")


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps"])
def test_an_unavailable_device_is_refused_with_those_available(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(device, "devices", lambda: ("cpu",))
    with pytest.raises(ConfigError) as caught:
        resolve_device(name)
    assert str(caught.value) == (
        f"model.device: {name!r} is not available on this machine; use one of auto, cpu"
    )


def test_the_processor_has_a_name() -> None:
    assert cpu_name().strip()


V2, V1 = "0::/a/b\n", "3:cpuset:/\n2:cpu,cpuacct:/a/b\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "cpus"),
    [
        (V2, {}, math.inf),
        (V2, {"a/b/cpu.max": "max 100000"}, math.inf),
        (V2, {"a/b/cpu.max": "250000 100000"}, 2.5),
        (V2, {"cpu.max": "50000 100000"}, 0.5),  # the own cgroup of a container is the top one
        (V2, {"a/cpu.max": "150000 100000", "a/b/cpu.max": "800000 100000"}, 1.5),
        (V2, {"a/b/cpu.max": "garbage"}, math.inf),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "300000", "cpu/a/b/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
    ],
)
def test_the_quota_of_a_cgroup(tmp_path: Path, own: str, files: dict[str, str], cpus: float) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert cpu_quota(tmp_path / "mounted", tmp_path / "own") == cpus
    assert cpu_quota(tmp_path / "mounted", tmp_path / "nothing") == math.inf


@pytest.mark.parametrize(
    ("variable", "affinity", "quota", "threads"),
    [
        (None, 8, math.inf, 8),
        (None, 8, 2.5, 3),
        (None, 1, 4, 1),
        (None, 8, 0.2, 1),
        ("3", 8, 1, 3),
        ("5,2", 8, math.inf, 5),
        ("0", 8, math.inf, 8),
        ("many", 8, math.inf, 8),
    ],
)
def test_threads_are_those_that_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, affinity: int, quota: float, threads: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    monkeypatch.setattr(device, "cpu_quota", lambda: quota)
    assert cpu_threads() == threads
    # What SLURM gives a task is a limit too, but for who sets OMP_NUM_THREADS.
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert cpu_threads() == (threads if variable in ("3", "5,2") else min(threads, 2))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert cpu_threads() == (threads if variable in ("3", "5,2") else 1)


@pytest.mark.parametrize(
    ("workers", "gpus", "kind"),
    [
        (None, 4, "cuda"),
        (WorkerDevice(None, gpus=2), 2, "cuda"),  # local_gpus with gpus_per_worker=2
        (WorkerDevice(None, gpus=8), 4, "cuda"),
        (WorkerDevice("cuda", gpus=8), 8, "cuda"),
        (WorkerDevice("cuda"), None, "cuda"),
        (WorkerDevice("cpu"), None, "cpu"),
    ],
)
def test_a_plan_counts_the_gpus_of_its_workers(
    workers: WorkerDevice | None, gpus: int | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (*(f"cuda:{index}" for index in range(4)), "cpu")
    monkeypatch.setattr(device, "devices", lambda: names)
    once = Once()
    plan_for(workers, once)
    assert planned_gpus(once) == gpus
    assert planned_device("auto", once) == kind
    assert (worker_device(once) is None) == (workers is None or workers.kind is None)
