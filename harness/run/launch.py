"""How a sweep is launched: who runs its groups, on what device, and whether the command waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.models.device import WorkerDevice
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.run.executor import Executor

Detach = Callable[[Plan, Progress], Sequence[str]]
"""Submits what a plan lacks; returns what is to be said of it, nothing where the store lacks nothing."""


@dataclass(frozen=True)
class Launch:
    """How a sweep is launched.

    Attributes:
        executor: runs the groups.
        device: that the plan is made for; None for this machine's.
        detach: submits what is to be run, in place of the executor, where the command does not wait.
    """

    executor: Executor
    device: WorkerDevice | None = None
    detach: Detach | None = None
