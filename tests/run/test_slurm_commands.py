"""SLURM by its commands: what they say of jobs, the script of an array, a job that is told to end."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.config.submitit_launchers import SubmititSlurm
from harness.run.batch import job_script, slurm, slurm_job, slurm_workers
from harness.run.batch.cluster import JobState
from harness.run.batch.job_script import JobCommand, slurm_script
from harness.run.batch.slurm import Slurm, refusal, sacct_end, scontrol_end, squeue_states
from harness.run.batch.slurm_job import queue_again, seconds_of

SWEEP = [
    "-m", "model=fable_tiny", "quantization=fp32,bf16", "decoding=greedy", "prompts.limit=2",
    "generation.max_new_tokens=8", "engine.batch_rows=1", "timing=off", "tracking=off",
]  # fmt: skip

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


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "sbatch: error: invalid partition specified: nix\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
            "Invalid partition name specified; see `sinfo` for hydra.launcher.partition",
        ),
        (
            "sbatch: error: Memory specification can not be satisfied\n"
            "sbatch: error: Batch job submission failed: Requested node configuration is not available\n",
            "Requested node configuration is not available; no node has so much: see gpus_per_node, ",
        ),
        ("", "no answer"),
    ],
)
def test_what_sbatch_refuses(said: str, line: str) -> None:
    assert refusal(said).startswith(line)


def test_slurm_that_does_not_answer_has_not_lost_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["slurm_load_jobs error: Unable to contact slurm controller (connect failure)"]

    def run(words: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", said[0])

    monkeypatch.setattr(slurm, "_run", run)
    assert Slurm().live(["17_0"]) is None
    said[0] = "slurm_load_jobs error: Invalid job id specified"
    assert Slurm().live(["17_0"]) == {}
    assert Slurm().ended("17_0").words == "is gone, and SLURM does not tell how it ended"


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


def test_a_head_within_a_job_submits_as_if_it_were_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_CONF", "SLURM_MEM_PER_CPU", "SRUN_CPUS_PER_TASK", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "x")
    found = slurm._environment()
    assert {"SLURM_CONF", "SBATCH_ACCOUNT"} <= set(found)
    assert not {"SLURM_MEM_PER_CPU", "SRUN_CPUS_PER_TASK"} & set(found)
