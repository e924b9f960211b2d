"""From the launcher that a config chooses to who starts its workers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.launcher import Launcher
from harness.config.point import Point
from harness.run.workers import Workers


def workers_of(launcher: Launcher, points: Sequence[Point]) -> Workers:
    """Return who starts the workers of a launcher.

    Raises:
        ConfigError: the launcher cannot run these points from this machine.
    """
    from harness.run.local_workers import LocalWorkers

    return LocalWorkers(launcher, points)
