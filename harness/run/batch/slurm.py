"""SLURM by its commands: squeue is asked first, since accounting (sacct) is off in many clusters."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from harness.errors import ConfigError, HarnessError
from harness.run.batch.cluster import JobEnd, JobState

_FORMAT = "%i|%T|%r|%N"
_PATIENCE_S = 60

_ENDS: Mapping[str, JobEnd] = {
    "OUT_OF_MEMORY": JobEnd("ran out of memory (OUT_OF_MEMORY); raise hydra.launcher.mem_gb"),
    "NODE_FAIL": JobEnd("lost its node (NODE_FAIL)"),
    "BOOT_FAIL": JobEnd("lost its node (BOOT_FAIL)"),
    "TIMEOUT": JobEnd("reached its time limit (TIMEOUT); raise hydra.launcher.timeout_min"),
    "DEADLINE": JobEnd("reached its deadline (DEADLINE)"),
    "PREEMPTED": JobEnd("was preempted (PREEMPTED)", "again"),
    "CANCELLED": JobEnd("was cancelled (CANCELLED)", "never"),
}
_UNKNOWN = JobEnd("is gone, and SLURM does not tell how it ended")


class Slurm:
    """The SLURM that this machine's commands speak to."""

    def submit(self, script: Path, count: int, after: Sequence[str]) -> list[str]:
        """Queue an array; jobs of the same array share a dependency."""
        arrays = sorted({job.partition("_")[0] for job in after})
        waiting = [f"--dependency=afterany:{':'.join(arrays)}"] if arrays else []
        done = _run(["sbatch", "--parsable", *waiting, str(script)])
        number = done.stdout.strip().partition(";")[0]
        if done.returncode or not number.isdecimal():
            problem = f"sbatch refuses the jobs: {refusal(done.stderr)}"
            raise ConfigError.of("hydra/launcher=submitit_slurm", problem)
        return [f"{number}_{index}" for index in range(count)]

    def live(self, jobs: Collection[str]) -> Mapping[str, JobState] | None:
        """Ask squeue."""
        if not jobs:
            return {}
        arrays = sorted({job.partition("_")[0] for job in jobs})
        done = _run(["squeue", "-h", "-r", "-o", _FORMAT, "-j", ",".join(arrays)])
        if done.returncode and "Invalid job id" not in done.stderr:
            return None
        found = squeue_states(done.stdout)
        return {job: found[job] for job in jobs if job in found}

    def ended(self, job: str) -> JobEnd:
        """Ask scontrol, which forgets after some minutes, then sacct."""
        found = scontrol_end(_run(["scontrol", "show", "job", "-o", job]).stdout)
        if found is None:
            done = _run(["sacct", "-n", "-X", "-P", "-o", "State,ExitCode", "-j", job])
            found = sacct_end(done.stdout) if done.returncode == 0 else None
        return found or _UNKNOWN

    def cancel(self, jobs: Collection[str], *, kill: bool = False) -> None:
        """Call scancel."""
        if jobs:
            _run(["scancel", "-Q", *(["--signal=KILL"] if kill else []), *jobs])


def find_slurm() -> Slurm:
    """Return the SLURM of this machine.

    Raises:
        ConfigError: its commands are not here.
    """
    if missing := [name for name in ("sbatch", "squeue", "scontrol", "scancel") if not shutil.which(name)]:
        problem = f"no {missing[0]} here; run it on a login node, or use hydra/launcher=local_gpus"
        raise ConfigError.of("hydra/launcher=submitit_slurm", problem)
    return Slurm()


def squeue_states(text: str) -> dict[str, JobState]:
    """Return the jobs that squeue lists in the format of `live`, by id."""
    found = {}
    for line in text.splitlines():
        job, state, reason, node = [*line.split("|"), "", "", ""][:4]
        if state == "RUNNING":
            found[job] = JobState(True, f"running on {node}" if node else "running")
        elif state == "PENDING":
            found[job] = JobState(False, f"queued ({reason})" if reason not in ("", "None") else "queued")
        elif state in ("COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED", "SIGNALING"):
            found[job] = JobState(state != "CONFIGURING", state.lower())
    return found


def scontrol_end(text: str) -> JobEnd | None:
    """Return how a job ended by the line of `scontrol show job -o`; None where that does not tell."""
    state = re.search(r"\bJobState=(\w+)", text)
    status = re.search(r"\bExitCode=(\d+):(\d+)", text)
    return _end(state[1] if state else "", status)


def sacct_end(text: str) -> JobEnd | None:
    """Return how a job ended by a line of sacct, `FAILED|137:0`; None where that does not tell."""
    state, _, status = text.strip().partition("|")
    return _end(state.partition(" ")[0], re.search(r"(\d+):(\d+)", status))


def _end(state: str, status: re.Match[str] | None) -> JobEnd | None:
    if state in _ENDS:
        return _ENDS[state]
    if state not in ("FAILED", "COMPLETED") or status is None:
        return None
    code, signal = int(status[1]), int(status[2])
    if 9 in (signal, code - 128):
        return JobEnd("was killed (SIGKILL), as the system does when memory runs out", status=137)
    if signal:
        return JobEnd(f"was ended by signal {signal}", status=128 + signal)
    return JobEnd(f"ended with exit status {code}", status=code)


def refusal(said: str) -> str:
    """Return what sbatch says in one line, with what is to be changed where that is clear."""
    reason = " ".join(said.rpartition("error:")[2].split()) or "no answer"
    reason = reason.removeprefix("Batch job submission failed: ")
    cures = {
        "partition": "see `sinfo` for hydra.launcher.partition",
        "account": "set hydra.launcher.account",
        "qos": "see hydra.launcher.qos",
        "node configuration": "no node has so much: see gpus_per_node, cpus_per_task, mem_gb, constraint",
        "time limit": "lower hydra.launcher.timeout_min",
    }
    found = next((cure for word, cure in cures.items() if word in reason.lower()), None)
    return reason if found is None else f"{reason}; {found}"


def _environment() -> dict[str, str]:
    """Return this process's environment, without what it has of a job that it runs in: jobs inherit it."""
    of_a_job = ("SLURM_", "SLURMD_", "SRUN_")
    return {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(of_a_job)
    }


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, env=_environment()
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer within {_PATIENCE_S} s")
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"no command {words[0]}")
    except OSError as error:
        raise HarnessError(f"{words[0]} cannot be run: {error}") from error
