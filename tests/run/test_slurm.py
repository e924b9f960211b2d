"""Sweeps through a real SLURM: the same tables as in one process, whatever happens to jobs and heads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_runs import runs
from slurm_cluster import SlurmCluster, can_start
from stored_tables import tables

from harness.cli.main import main

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not can_start(), reason="needs root, slurmctld, slurmd, munge and slurm-client"),
]

SWEEP = [
    "-m", "model=fable_tiny", "quantization=fp32,bf16,fp16", "decoding=greedy", "prompts.limit=8",
    "generation.max_new_tokens=96", "generation.ignore_eos=true", "engine.batch_rows=1",
    "timing.prompts=1", "timing.repeats=1", "timing.warmup=0", "timing.new_tokens=2",
]  # fmt: skip
ONE = [*(word for word in SWEEP if not word.startswith("quantization")), "quantization=fp32"]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1"]


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    try:
        cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    except PermissionError as error:  # a container that may not make device files
        pytest.skip(f"no SLURM can be started here: {error}")
    yield cluster
    cluster.stop()


@pytest.fixture
def slurm(daemons: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    monkeypatch.setenv("SLURM_CONF", str(daemons.conf))
    yield daemons
    daemons.clear()


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of the sweep in one process."""
    folder = tmp_path_factory.mktemp("serial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_OUTPUTS", str(folder))
        assert main([*SWEEP, "tracking=off"]) == 0
    return tables(folder)


def until(holds: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def in_background(act: Callable[[], None]) -> None:
    threading.Thread(target=act, daemon=True).start()


def kept(outputs: Path) -> list[Path]:
    return list(outputs.glob("points/*/partial/generations-*"))


def said(outputs: Path, what: str) -> list[Any]:
    """What the workers told of one kind, over all their files."""
    files = sorted(outputs.glob("sweeps/*/workers/*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines() if line]
    return [line[what] for line in lines if what in line]


def head(shown: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command of ours, whose output goes to a file."""
    command = [sys.executable, "-u", "-m", "harness", *words]
    with shown.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


def test_a_wave_after_its_reference_and_a_killed_worker(
    slurm: SlurmCluster,
    serial: dict[str, Any],
    tmp_path: Path,
    outputs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"

    def kill() -> None:
        until(lambda: kept(outputs))
        os.kill(said(outputs, "begin")[0]["pid"], signal.SIGKILL)

    in_background(kill)
    assert main([*SWEEP, f"tracking.uri={store}", *SLURM]) == 0
    assert tables(outputs) == serial
    shown = capsys.readouterr().out
    assert "was killed (SIGKILL), as the system does when memory runs out; its last line:" in shown
    assert "started again (1 of 2)" in shown
    assert "latency was measured on a node that other jobs may have used" in shown
    assert [run.info.status for run in runs(store, "generation")] == ["FINISHED"] * 3
    assert [run.info.status for run in runs(store, "sweep")] == ["FINISHED"]
    (record,) = outputs.glob("sweeps/*/workers/jobs.json")
    jobs = json.loads(record.read_text())["jobs"]
    assert [job["group"] for job in jobs] == [0, 0, 1, 2]
    arrays = [job["id"].partition("_")[0] for job in jobs]
    assert arrays[2] == arrays[3], "the second wave is one array"
    assert {begun["job"] for begun in said(outputs, "begin")} == {job["id"] for job in jobs}


def test_jobs_that_share_a_group(
    slurm: SlurmCluster, serial: dict[str, Any], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*ONE, "tracking=off", "engine.shards=2", *SLURM]
    assert main(["plan", *words]) == 0
    assert "fable_tiny fp32 by up to 2 workers" in " ".join(capsys.readouterr().out.split())

    def kill() -> None:
        until(lambda: kept(outputs))
        os.kill(said(outputs, "begin")[-1]["pid"], signal.SIGKILL)

    in_background(kill)
    assert main(words) == 0
    assert tables(outputs).items() <= serial.items()
    (record,) = outputs.glob("sweeps/*/workers/jobs.json")
    jobs = json.loads(record.read_text())["jobs"]
    assert [job["share"] for job in jobs][:2] == ["0/2", "1/2"]
    assert len({job["id"].partition("_")[0] for job in jobs[:2]}) == 1, "they are one array"


def test_a_preempted_job_is_queued_again_and_goes_on(
    slurm: SlurmCluster, serial: dict[str, Any], outputs: Path
) -> None:
    def preempt() -> None:
        until(lambda: kept(outputs))
        # However fast it is, it is not done before SLURM tells it to go on and end.
        os.kill(said(outputs, "begin")[0]["pid"], signal.SIGSTOP)
        slurm.run("sbatch", "-p", "urgent", "-n", "2", "-o", "/dev/null", "--wrap", "sleep 1")
        job = said(outputs, "begin")[0]["job"]
        until(lambda: slurm.jobs().get(job) == "PENDING")
        until(lambda: list(slurm.jobs()) == [job])
        slurm.run(
            "scontrol", "update", f"JobId={job}", "StartTime=now"
        )  # SLURM itself lets it wait 2 minutes

    in_background(preempt)
    assert main([*ONE, "tracking=off", *SLURM]) == 0
    assert tables(outputs).items() <= serial.items()
    begun, ended = said(outputs, "begin"), said(outputs, "end")
    assert len({one["job"] for one in begun}) == 1
    assert len(begun) == 2, "the same job, twice"
    assert [one["status"] for one in ended] == [143, 0]
    assert ended[0]["why"] == "was preempted"


def test_submitted_and_left_then_a_head_that_is_killed_then_one_that_waits(
    slurm: SlurmCluster,
    serial: dict[str, Any],
    tmp_path: Path,
    outputs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slurm.run("scontrol", "update", "PartitionName=gpu", "State=DOWN")  # jobs are queued, none starts
    try:
        words = [*SWEEP, "tracking=off", *SLURM]
        assert main([*words, "hydra.launcher.wait=false"]) == 0
        shown = capsys.readouterr().out
        assert "3 jobs submitted; the same command says how far they are" in shown
        assert "fable_tiny fp32: job" in shown
        assert len(slurm.jobs()) == 3
        queued = slurm.jobs()
        assert main([*words, "hydra.launcher.wait=false"]) == 0
        shown = capsys.readouterr().out
        assert "nothing submitted" in shown
        assert "is queued (PartitionDown)" in shown
    finally:
        slurm.run("scontrol", "update", "PartitionName=gpu", "State=UP")
    with head(tmp_path / "shown", *words) as first:
        until(lambda: kept(outputs))
        first.kill()
    assert slurm.jobs().keys() <= queued.keys()
    assert main(words) == 0
    assert tables(outputs) == serial
    assert {begun["job"] for begun in said(outputs, "begin")} == queued.keys(), "none was submitted twice"
    capsys.readouterr()
    assert main([*words, "hydra.launcher.wait=false"]) == 0
    assert "3 reused" in capsys.readouterr().out


def test_a_job_that_is_cancelled_fails_its_points_and_ctrl_c_cancels_the_rest(
    slurm: SlurmCluster, tmp_path: Path, outputs: Path
) -> None:
    words = [*SWEEP, "tracking=off", "drift.enabled=false", "hydra/launcher=submitit_slurm"]
    words += ["hydra.launcher.cpus_per_task=2"]
    shown = tmp_path / "shown"
    with head(shown, *words) as process:
        until(lambda: kept(outputs))
        first, second = sorted(slurm.jobs())[:2]
        slurm.run("scancel", first)
        until(lambda: f"job {first} was cancelled (CANCELLED)" in shown.read_text())
        until(lambda: any(begun["job"] == second for begun in said(outputs, "begin")))
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130, shown.read_text()
    assert "the same command resumes from here" in shown.read_text()
    assert slurm.jobs() == {}


def test_a_job_is_told_that_its_time_is_over(
    slurm: SlurmCluster, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=50", "hydra.launcher.retries=0"]
    slow = [word for word in ONE if not word.startswith(("model", "decoding", "prompts", "generation"))]
    slow += ["model=fable_small", "decoding=top_p", "generation.samples=64", "timing=off"]
    slow += ["prompts.limit=16", "generation.max_new_tokens=450", "generation.ignore_eos=true"]
    assert main([*slow, "tracking=off", *SLURM, *limit]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "reached its time limit; raise hydra.launcher.timeout_min" in shown
