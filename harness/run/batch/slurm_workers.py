"""`hydra/launcher=submitit_slurm`: workers are jobs of SLURM."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from harness.config.point import Point
from harness.config.submitit_launchers import SubmititSlurm
from harness.run.batch.batch_workers import BatchWorkers
from harness.run.batch.job_script import INSTALL, JobCommand, check_submitit, slurm_script
from harness.run.batch.slurm import find_slurm


class SlurmWorkers(BatchWorkers):
    """Starts workers as jobs of SLURM.

    Raises:
        ConfigError: submitit, or SLURM's commands, are not here.
    """

    def __init__(self, launcher: SubmititSlurm, points: Iterable[Point] = ()) -> None:
        check_submitit()
        super().__init__(launcher, find_slurm())
        self._options = launcher

    @staticmethod
    def here() -> str:
        """Return the partitions of the cluster, or what is missing."""
        lacking = [] if shutil.which("sbatch") else ["no sbatch here: run it on a login node"]
        lacking += [] if find_spec("submitit") else [f"submitit is missing: {INSTALL}"]
        if lacking:
            return "; ".join(lacking)
        try:
            done = subprocess.run(
                ["sinfo", "-h", "-o", "%R (%D nodes, %a, %l)"],
                capture_output=True,
                text=True,
                check=False,
                timeout=10,
            )
        except (OSError, subprocess.TimeoutExpired):
            return "SLURM does not answer"
        partitions = ", ".join(dict.fromkeys(done.stdout.splitlines()))
        return f"partitions {partitions}" if partitions else "SLURM does not answer"

    def script(self, jobs: Sequence[JobCommand], folder: Path, gpus: int | None) -> str:
        """Return the script for sbatch."""
        return slurm_script(self._options, jobs, folder, gpus)
