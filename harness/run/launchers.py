"""From the launcher that a config chooses to who starts its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from harness.config.launcher_section import PREFIX, LauncherSection
from harness.config.local_gpus import LocalGpus
from harness.config.point import Point
from harness.config.ray_launcher import RayLauncher
from harness.config.submitit_launchers import BatchLauncher, SubmititLocal, SubmititSlurm
from harness.models.device import WorkerDevice
from harness.run.batch.batch_workers import BatchWorkers
from harness.run.batch.detached import detach_to
from harness.run.launch import Launch
from harness.run.worker_pool import WorkerPool
from harness.run.workers import Workers

_ENGINES: Mapping[type[LauncherSection], str] = {
    LocalGpus: "local_workers.LocalWorkers",
    SubmititLocal: "batch.local_job_workers.LocalJobWorkers",
    SubmititSlurm: "batch.slurm_workers.SlurmWorkers",
    RayLauncher: "ray.ray_workers.RayWorkers",
}
"""Who starts the workers of each launcher; imported when it is chosen."""


def engine(section: type[LauncherSection]) -> Any:
    """Return the class of `Workers` that a launcher starts; called with the launcher and the points."""
    module, _, name = _ENGINES[section].rpartition(".")
    return getattr(import_module(f"harness.run.{module}"), name)


def device_of(launcher: LauncherSection | None) -> WorkerDevice | None:
    """Return the device that a plan is made for; None for this machine's."""
    if launcher is None or (launcher.device is None and launcher.worker_gpus is None):
        return None
    memory = None if launcher.device_gb is None else int(launcher.device_gb * 1e9)
    cure = f"set {PREFIX}{launcher.GPUS}=1" if launcher.GPUS else "use a launcher whose workers have one"
    return WorkerDevice(
        launcher.device, launcher.worker_gpus, memory if launcher.device == "cuda" else None, cure
    )


def launch_of(launcher: LauncherSection, points: Sequence[Point]) -> Launch:
    """Return how a sweep of these points is launched.

    Raises:
        ConfigError: the launcher cannot run these points from this machine.
    """
    workers = workers_of(launcher, points)
    detach = None
    if isinstance(launcher, BatchLauncher) and isinstance(workers, BatchWorkers) and not launcher.wait:
        detach = detach_to(workers)
    return Launch(WorkerPool(workers), device_of(launcher), detach)


def workers_of(launcher: LauncherSection, points: Sequence[Point]) -> Workers:
    """Return who starts the workers of a launcher.

    Raises:
        ConfigError: the launcher cannot run these points from this machine.
    """
    workers: Workers = engine(type(launcher))(launcher, points)
    return workers
