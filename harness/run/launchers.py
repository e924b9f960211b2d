"""From the launcher that a config chooses to who starts its workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.config.launcher_section import LauncherSection
from harness.config.local_gpus import LocalGpus
from harness.config.point import Point
from harness.run.workers import Workers


def engine(section: type[LauncherSection]) -> Any:
    """Return the class of `Workers` that a launcher starts; called with the launcher and the points."""
    if section is LocalGpus:
        from harness.run.local_workers import LocalWorkers

        return LocalWorkers
    raise NotImplementedError(section.NAME)


def workers_of(launcher: LauncherSection, points: Sequence[Point]) -> Workers:
    """Return who starts the workers of a launcher.

    Raises:
        ConfigError: the launcher cannot run these points from this machine.
    """
    workers: Workers = engine(type(launcher))(launcher, points)
    return workers
