"""What a pool asks of whoever starts workers: as processes of this machine, or on others."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from harness.artifacts.registry import inventory
from harness.plan.plan import Plan
from harness.progress import Progress

FOLDER = "workers"
"""In the folder of a sweep: what workers write beside the store."""

PATIENCE_S = 10.0
"""A worker that is asked to end is killed after this."""


After = Literal["count", "again", "never"]
"""Whether another worker takes the place of one that died, and whether that counts among the retries."""


@dataclass(frozen=True)
class Task:
    """What one worker runs: `harness worker SWEEP --group K`.

    Attributes:
        plan: the group's.
        group: its number.
        without: jobs of the group that are not tried any more.
        attempt: how many workers ran the task before.
    """

    plan: Plan
    group: int
    without: tuple[int, ...] = ()
    attempt: int = 0

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"group-{self.group}"

    @property
    def folder(self) -> Path:
        """Where what workers write beside the store lies."""
        return self.plan.folder / FOLDER

    @property
    def log(self) -> Path:
        """Where its workers' standard error is appended."""
        return self.folder / f"{self.name}.log"

    @property
    def words(self) -> list[str]:
        """What follows `harness worker`."""
        words = [str(self.plan.folder), "--group", str(self.group)]
        if self.without:
            words += ["--without", ",".join(map(str, self.without))]
        return words


class Worker(Protocol):
    """A worker as its head sees it."""

    @property
    def name(self) -> str:
        """What people know it by: `worker 1 (GPU 3)`."""

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs, or waits to."""

    @property
    def after(self) -> After:
        """Whether another takes its place once it died: `count` it, `again` without counting, `never`."""

    def how_it_ended(self) -> str:
        """Return in a few words how it ended, and the last line of its log."""

    def end(self) -> None:
        """Ask it to end as on Ctrl-C; at once."""

    def wait(self) -> None:
        """Wait until it has ended; kill it where that takes long."""


Event = tuple[Worker, Mapping[str, Any] | None]
"""A worker and what it told (`run/worker_lines.py`); None once it has ended."""


class Workers(Protocol):
    """Starts workers."""

    @property
    def retries(self) -> int:
        """How often a worker that died is started again."""

    @staticmethod
    def here() -> str:
        """Return what it would do from this machine, or what it lacks: a few words for `harness doctor`."""

    def describe(self, plan: Plan) -> str:
        """Return in a line how the groups of a plan go to workers, for `harness plan`.

        Raises:
            ConfigError: they cannot.
        """

    def prepare(self, plan: Plan, progress: Progress) -> None:
        """Make ready what workers will need, before the plan's points are written and any is started.

        Raises:
            ConfigError: they cannot be started.
        """

    def places(self, plan: Plan) -> int:
        """Return how many workers can be started side by side."""

    def start(self, tasks: Sequence[Task], events: SimpleQueue[Event]) -> Sequence[Worker]:
        """Start one worker a task; no more than there are free places.

        Args:
            tasks: whose files, `points.json` among them, are written.
            events: receives what the workers tell.

        Raises:
            StoreError: the log cannot be written.
        """

    def close(self) -> None:
        """Release what starting them took; none runs any more."""


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]


def exit_reason(status: int) -> str:
    """Return in a few words how a process with this exit status ended; negative for a signal."""
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does when memory runs out"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def is_complete(plan: Plan, number: int) -> bool:
    """Return whether the store has all of a group, undamaged."""
    jobs = plan.groups[number].jobs
    if any(plan.missing[index] for index in jobs):
        return False
    held = inventory(plan.outputs, thorough=True)
    return not any(held.damage(plan.jobs[index].point_id for index in jobs))


def groups_at_once(plan: Plan, most: float) -> str:
    """Return how many groups there are, how many run at once of `most` workers, and which after which."""
    first = sum(not group.after for group in plan.groups)
    at_once = min(most, max(first, len(plan.groups) - first))
    parts = [f"{counted(len(plan.groups), 'group')}, at most {at_once} at once"]
    for group in plan.groups:
        if group.after:
            parts.append(
                f"{group.name} after {', '.join(plan.groups[number].name for number in group.after)}"
            )
    return "; ".join(parts)


def counted(number: int, what: str) -> str:
    """Return a number of things: `1 worker`, `2 workers`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
