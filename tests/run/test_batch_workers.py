"""Groups as jobs of a batch system: what SLURM's commands say, and sweeps through jobs of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from stored_tables import tables

from harness.cli.main import main
from harness.config.submitit_launchers import SubmititSlurm
from harness.run import job_script, slurm, slurm_job, slurm_workers
from harness.run.batch_worker import BatchWorker
from harness.run.cluster import JobEnd, JobState
from harness.run.job_script import JobCommand, slurm_script
from harness.run.lines_file import LinesFile, LinesReader
from harness.run.slurm import Slurm, sacct_end, scontrol_end, squeue_states
from harness.run.slurm_job import queue_again, seconds_of

SWEEP = [
    "-m", "model=fable_tiny", "quantization=fp32,bf16", "decoding=greedy", "prompts.limit=2",
    "generation.max_new_tokens=8", "engine.batch_rows=1", "timing=off", "tracking=off",
]  # fmt: skip
LOCAL = ["hydra/launcher=submitit_local"]

SQUEUE = """\
17_0|RUNNING|None|node7
17_1|PENDING|Resources|
17_2|PENDING|JobArrayTaskLimit|
18_0|COMPLETING|None|node7
19_0|PENDING|BeginTime|
20_0|FAILED|NonZeroExitCode|node1
nonsense
"""


def test_what_squeue_lists() -> None:
    assert squeue_states(SQUEUE) == {
        "17_0": JobState(True, "running on node7"),
        "17_1": JobState(False, "queued (Resources)"),
        "17_2": JobState(False, "queued (JobArrayTaskLimit)"),
        "18_0": JobState(True, "completing"),
        "19_0": JobState(False, "queued (BeginTime)"),
    }


@pytest.mark.parametrize(
    ("state", "code", "words", "after", "status"),
    [
        ("OUT_OF_MEMORY", "0:125", "ran out of memory (OUT_OF_MEMORY)", "count", None),
        ("NODE_FAIL", "0:0", "lost its node (NODE_FAIL)", "count", None),
        ("TIMEOUT", "0:15", "reached its time limit (TIMEOUT)", "count", None),
        ("PREEMPTED", "0:15", "was preempted", "again", None),
        ("CANCELLED", "0:15", "was cancelled (CANCELLED)", "never", None),
        ("FAILED", "137:0", "was killed (SIGKILL)", "count", 137),
        ("FAILED", "0:9", "was killed (SIGKILL)", "count", 137),
        ("FAILED", "4:0", "ended with exit status 4", "count", 4),
        ("COMPLETED", "0:0", "ended with exit status 0", "count", 0),
    ],
)
def test_how_a_job_ended(state: str, code: str, words: str, after: str, status: int | None) -> None:
    line = (
        f"JobId=18 ArrayJobId=17 ArrayTaskId=1 JobName=harness JobState={state} Reason=x ExitCode={code} A=B"
    )
    for end in (scontrol_end(line), sacct_end(f"{state}{' by 0' * (state == 'CANCELLED')}|{code}\n")):
        assert end is not None
        assert end.words.startswith(words)
        assert (end.after, end.status) == (after, status)


def test_slurm_that_does_not_answer_has_not_lost_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["slurm_load_jobs error: Unable to contact slurm controller (connect failure)"]

    def run(words: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", said[0])

    monkeypatch.setattr(slurm, "_run", run)
    assert Slurm().live(["17_0"]) is None
    said[0] = "slurm_load_jobs error: Invalid job id specified"
    assert Slurm().live(["17_0"]) == {}
    assert Slurm().ended("17_0").words == "is gone, and SLURM does not tell how it ended"


class _Told:
    """A cluster that says what a test sets."""

    def __init__(self) -> None:
        self.end = JobEnd("was killed (SIGKILL)", status=137)

    def ended(self, job: str) -> JobEnd:
        return self.end


def _worker(tmp_path: Path, cluster: Any, events: SimpleQueue[Any]) -> tuple[BatchWorker, LinesFile]:
    path = tmp_path / "lines.jsonl"
    return BatchWorker("17_0", path, tmp_path / "log", cluster, events), LinesFile(path)


def test_a_job_that_is_queued_again_has_not_ended(tmp_path: Path) -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    worker, lines = _worker(tmp_path, _Told(), events)
    worker.look({"17_0": JobState(False, "queued (Priority)")})
    assert events.get_nowait()[1]["stage"]["label"] == "queued (Priority)"
    for told in ({"begin": {}}, {"end": {"status": 143, "why": "was preempted", "after": "again"}}):
        lines.write(json.dumps(told) + "\n")
    worker.hear()
    worker.look({"17_0": JobState(False, "queued (BeginTime)")})
    assert worker.status is None
    lines.write('{"begin": {}}\n{"outcome": {"job": 0}}\n{"end": {"sta')
    worker.hear()
    assert worker.status is None, "half a line is none"
    lines.write('tus": 0}}\n')
    worker.hear()
    assert worker.status == 0
    told = [events.get_nowait()[1] for _ in range(3)]
    assert told[1:] == [{"outcome": {"job": 0}}, None]


def test_a_job_that_was_told_to_end_and_is_not_queued_says_why(tmp_path: Path) -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    cluster = _Told()
    cluster.end = JobEnd("ended with exit status 143", status=143)
    worker, lines = _worker(tmp_path, cluster, events)
    (tmp_path / "log").write_text("12:00:00 decoding\n")
    lines.write('{"begin": {}}\n{"end": {"status": 143, "why": "was preempted", "after": "again"}}\n')
    worker.hear()
    worker.look({})
    assert (worker.status, worker.after) == (143, "again")
    assert worker.how_it_ended() == "was preempted; its last line: 12:00:00 decoding"


def test_a_job_that_vanishes_is_dead_within_seconds(tmp_path: Path) -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    worker, lines = _worker(tmp_path, _Told(), events)
    lines.write('{"begin": {}}\n')
    started = time.monotonic()
    while worker.status is None:
        worker.hear()
        worker.look({})
        time.sleep(0.1)
    assert 1 < time.monotonic() - started < 10, "its last lines may come late"
    assert worker.how_it_ended() == "was killed (SIGKILL)"


@pytest.mark.parametrize(
    ("left", "seconds"),
    [("2:03", 123), ("1:02:03", 3723), ("1-02:03:04", 93784), ("UNLIMITED", None), ("", None)],
)
def test_the_time_that_is_left(left: str, seconds: int | None) -> None:
    assert seconds_of(left) == seconds


@pytest.mark.parametrize(
    ("queue", "restarts", "words", "requeued"),
    [
        ("RUNNING|3:00:00", "5", "was preempted", True),
        ("RUNNING|2:00", "0", "reached its time limit; raise hydra.launcher.timeout_min", True),
        ("RUNNING|2:00", "1", "reached its time limit; raise hydra.launcher.timeout_min", False),
        ("CANCELLED|3:00:00", "0", None, False),
        ("", "0", None, False),
    ],
)
def test_a_job_that_is_told_to_end_is_queued_again_where_that_helps(
    queue: str, restarts: str, words: str | None, requeued: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def output(words: list[str]) -> str:
        called.append(words)
        return queue + "\n"

    facts = {"SLURM_JOB_ID": "18", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "1"}
    facts |= {
        "SLURM_RESTART_COUNT": restarts,
        "HARNESS_SIGNAL_DELAY_S": "120",
        "HARNESS_MAX_NUM_TIMEOUT": "1",
    }
    for name, value in facts.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(slurm_job, "_output", output)
    found = queue_again()
    assert (found and found.words) == words
    assert (["scontrol", "requeue", "17_1"] in called) is requeued
    monkeypatch.delenv("SLURM_JOB_ID")
    assert queue_again() is None


def test_the_options_of_sbatch_are_submitits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = SubmititSlurm(
        partition="a100", timeout_min=90, mem_gb=64, cpus_per_task=8, gpus_per_node=1, account="lab",
        additional_parameters={"mail-type": "END", "exclusive": True}, array_parallelism=2,
        setup=("module load cuda",), srun_args=("--mpi=none",), python="apptainer exec it.sif python",
    )  # fmt: skip
    monkeypatch.setattr("submitit.SlurmExecutor.affinity", lambda *_: 2)
    jobs = [
        JobCommand(["/a b/sweep", "--group", str(number)], tmp_path / f"{number}.log") for number in range(3)
    ]
    script = slurm_script(launcher, jobs, tmp_path, 1)
    options = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert options >= {
        "partition=a100", "time=90", "mem=65536MB", "cpus-per-task=8", "gpus-per-node=1", "array=0-2%2",
        "mail-type=END", "exclusive", "account=lab", "signal=USR2@120", "requeue", "ntasks-per-node=1",
    }  # fmt: skip
    assert "module load cuda" in script.splitlines()
    assert "srun --unbuffered --mpi=none apptainer exec it.sif python -m harness worker" in script
    assert "1) words=('/a b/sweep' --group 1);" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_what_is_missing_here_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", *SWEEP, "hydra/launcher=submitit_slurm"]
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    assert main(words) == 2
    assert (
        "no sbatch here; run it on a login node, or use hydra/launcher=local_gpus" in capsys.readouterr().err
    )
    assert "no sbatch here" in slurm_workers.SlurmWorkers.here()
    monkeypatch.setattr(job_script, "find_spec", lambda name: None)
    assert main(words) == 2
    assert "submitit is not installed: pip install 'decoding-harness[slurm]'" in capsys.readouterr().err


def test_jobs_of_this_machine_make_the_same_tables(
    tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Submitted and left; then a head that waits for them, and starts one again that is killed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main([*SWEEP, *LOCAL, "hydra.launcher.wait=false"]) == 0
    assert "2 jobs submitted" in capsys.readouterr().out

    def begun() -> list[Any]:
        files = sorted(outputs.glob("sweeps/*/workers/*.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [line["begin"]["pid"] for line in lines if "begin" in line]

    def kill() -> None:
        while len(begun()) < 2:
            time.sleep(0.01)
        os.kill(begun()[1], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    assert main([*SWEEP, *LOCAL]) == 0
    shown = capsys.readouterr().out
    assert "was killed (SIGKILL)" in shown
    assert "was submitted before; going on with it for fable_tiny fp32" in shown
    assert len(begun()) == 3
    there = tables(outputs)
    monkeypatch.setenv("HARNESS_OUTPUTS", str(tmp_path / "serial"))
    assert main(SWEEP) == 0
    assert there == tables(tmp_path / "serial")


def test_lines_that_are_none_are_left_out(tmp_path: Path) -> None:
    reader = LinesReader(tmp_path / "lines")
    assert list(reader.new()) == []
    (tmp_path / "lines").write_text('garbage\n[1]\n{"a": 1}\n{"b"')
    assert list(reader.new()) == [{"a": 1}]
    with (tmp_path / "lines").open("a") as file:
        file.write(": 2}\n")
    assert list(reader.new()) == [{"b": 2}]


def test_importing_the_queue_of_this_machine_is_quick() -> None:
    code = "import sys, harness.run.local_queue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
