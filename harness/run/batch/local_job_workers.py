"""`hydra/launcher=submitit_local`: workers are jobs of this machine, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.config.point import Point
from harness.config.submitit_launchers import SubmititLocal
from harness.run.batch.batch_workers import BatchWorkers
from harness.run.batch.job_script import JobCommand, local_script
from harness.run.batch.local_queue import LocalQueue


class LocalJobWorkers(BatchWorkers):
    """Starts workers as jobs of this machine."""

    def __init__(self, launcher: SubmititLocal, points: Iterable[Point] = ()) -> None:
        super().__init__(launcher, LocalQueue(launcher.timeout_min))
        self._options = launcher

    @staticmethod
    def here() -> str:
        """Return what it does."""
        return "one job after the other, to try out what submitit_slurm does"

    def script(self, jobs: Sequence[JobCommand], folder: Path, gpus: int | None) -> str:
        """Return the script for bash."""
        return local_script(self._options, jobs, gpus)
