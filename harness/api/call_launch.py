"""How a call of the API runs its sweep: in this process, with models that a session keeps, or by workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api.session import kept_backends
from harness.api.trial import TrialFolder
from harness.config.hydra_app import Command
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.run.launch import Launch


def launch_of_call(command: Command, trial: TrialFolder | None) -> Launch:
    """Return how a sweep is launched: in this process, or by workers that the launcher starts."""
    if command.files.launcher is None:
        from harness.run.launch import Launch
        from harness.run.local import LocalExecutor

        return Launch(LocalExecutor(kept_backends()))
    if trial is not None and trial.holds_functions:
        message = "other processes do not have a function of this one; store it in a file, or leave this out"
        raise ConfigError.of("hydra/launcher", message)
    from harness.run.launchers import launch_of

    return launch_of(command.files.launcher, command.points)
