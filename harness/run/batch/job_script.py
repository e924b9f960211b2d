"""The script of a job array: submitit writes the options of sbatch from its own keys, we what a job runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.config.submitit_launchers import BatchLauncher, SubmititSlurm
from harness.errors import ConfigError

INSTALL = "pip install 'decoding-harness[slurm]'"
SIGNAL_DELAY = "HARNESS_SIGNAL_DELAY_S"
"""The environment variable that tells a job how long before its time limit it is told to end."""
MOST_TIMEOUTS = "HARNESS_MAX_NUM_TIMEOUT"
"""The environment variable that tells a job how often it is queued again after its time limit."""

_OPTIONS = (
    "partition", "qos", "comment", "constraint", "exclude", "gres", "cpus_per_gpu", "gpus_per_task",
    "mem_per_gpu", "mem_per_cpu", "account", "signal_delay_s", "array_parallelism", "stderr_to_stdout",
    "cpus_per_task",
)  # fmt: skip


@dataclass(frozen=True)
class JobCommand:
    """What a job of an array runs: the words after `harness worker`, and where its standard error goes."""

    words: Sequence[str]
    log: Path


def check_submitit() -> None:
    """Check that submitit is installed.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("submitit") is None:
        raise ConfigError.of("hydra/launcher=submitit_slurm", f"submitit is not installed: {INSTALL}")


def slurm_script(launcher: SubmititSlurm, jobs: Sequence[JobCommand], folder: Path, gpus: int | None) -> str:
    """Return the script of an array for sbatch.

    Args:
        launcher: its options.
        jobs: what they run.
        folder: of their output, on the shared file system.
        gpus: of each job on its node; None where another option says it, or there is none.
    """
    from submitit import SlurmExecutor

    options: dict[str, Any] = {name: getattr(launcher, name) for name in _OPTIONS}
    options |= {
        "job_name": launcher.name,
        "time": launcher.timeout_min,
        "mem": None if launcher.mem_gb is None else f"{round(launcher.mem_gb * 1024)}MB",
        "gpus_per_node": gpus,
        "nodes": 1,
        "ntasks_per_node": 1,
        "additional_parameters": {"requeue": True, **launcher.additional_parameters},
        "setup": list(launcher.setup or ()),
        "use_srun": False,  # our own, below: its standard error is the worker's log
    }
    executor = SlurmExecutor(folder)
    executor.update_parameters(**{key: value for key, value in options.items() if value is not None})
    executor.parameters["map_count"] = len(jobs)
    srun = shlex.join(["srun", "--unbuffered", *(launcher.srun_args or ())])
    environment = [
        f"export {SIGNAL_DELAY}={launcher.signal_delay_s} {MOST_TIMEOUTS}={launcher.max_num_timeout}",
        # Since SLURM 22.05 srun does not take it over from sbatch.
        'if [ -n "$SLURM_CPUS_PER_TASK" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi',
        "trap : TERM USR2  # the worker ends by itself",
    ]
    python = launcher.python or shlex.quote(sys.executable)
    return executor._make_submission_file_text(
        "\n".join([*environment, *_command(jobs, f"{srun} {python}")]), ""
    )


def local_script(launcher: BatchLauncher, jobs: Sequence[JobCommand], gpus: int | None) -> str:
    """Return the script of an array for this machine."""
    lines = ["#!/bin/bash"]
    if gpus is not None:
        lines.append(f"export CUDA_VISIBLE_DEVICES={','.join(map(str, range(gpus)))}")
    if launcher.cpus_per_task:
        lines.append(f"export OMP_NUM_THREADS={launcher.cpus_per_task}")
    return "\n".join([*lines, *_command(jobs, f"exec {shlex.quote(sys.executable)}")])


def _command(jobs: Sequence[JobCommand], python: str) -> list[str]:
    cases = [
        f"{number}) words=({shlex.join(job.words)}); log={shlex.quote(str(job.log))};;"
        for number, job in enumerate(jobs)
    ]
    return [
        "export HF_HUB_OFFLINE=1  # weights were fetched before",
        'case "$SLURM_ARRAY_TASK_ID" in',
        *cases,
        "esac",
        f'{python} -m harness worker "${{words[@]}}" 2>>"$log"',
        "",
    ]
