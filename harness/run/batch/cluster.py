"""What a batch system is asked: to queue jobs, which of them it still has, how one ended, to cancel some."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.run.workers import After


@dataclass(frozen=True)
class JobState:
    """A job that is queued or running.

    Attributes:
        running: whether it has begun.
        words: its state for people: `queued (Priority)`, `running on node7`.
    """

    running: bool
    words: str


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        words: for people: `ran out of memory (OUT_OF_MEMORY)`.
        after: whether a new job takes its place: `count` it as a death, `again` without counting, `never`.
        status: the exit status of its process; None where it is not known.
    """

    words: str
    after: After = "count"
    status: int | None = None


class Cluster(Protocol):
    """A batch system."""

    def submit(self, script: Path, count: int, after: Sequence[str]) -> list[str]:
        """Queue a script as an array of so many jobs, once the jobs `after` have ended; return their ids.

        Raises:
            HarnessError: it is refused.
        """

    def live(self, jobs: Collection[str]) -> Mapping[str, JobState] | None:
        """Return those of the jobs that are queued or running; None where the system does not answer."""

    def ended(self, job: str) -> JobEnd:
        """Return how a job that is not live any more ended."""

    def cancel(self, jobs: Collection[str], *, kill: bool = False) -> None:
        """Cancel jobs, queued and running ones; with `kill` at once."""
