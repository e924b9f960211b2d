"""Workers that share the batches of jobs that decode together.

Whoever holds the jobs' own locks leads: it writes the plan of the batches, merges them once all are there,
and makes what is not made by batch. The others help: each takes batches that nobody has by a lock of the
batch, while it holds a lock of its own as a member. So whoever must change the plan, as another sweep or the
next run may have to, takes the members' locks first: then nobody writes batches of the old one any more.

All locks are freed when their owner dies, so that the others, or the next run, go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store.locks import Tell, forget_locks, lock, try_lock

if TYPE_CHECKING:
    from harness.store.partial import BatchPlan


POLL_S = 0.2
"""Whoever waits for other workers looks so often."""


@dataclass(frozen=True)
class Share:
    """Which share of a group a worker has.

    Attributes:
        group: name of the group, with its sweep's.
        families: number of the family of each job of the group, by its index in the plan.
        worker: number of the worker, from 0.
        workers: how many share the group.
    """

    group: str
    families: Mapping[int, int]
    worker: int
    workers: int


@dataclass(frozen=True)
class Team:
    """A member of a team: one of the workers that share a family's batches.

    Attributes:
        outputs: folder of the store.
        name: of the family, with its sweep's.
        worker: number of the member, from 0.
        workers: how many they are.
        tell: receives what is unusual about locks.
    """

    outputs: Path
    name: str
    worker: int
    workers: int
    tell: Tell

    def owns(self, plan: BatchPlan | None) -> bool:
        """Return whether batches are made by this team, with as many members."""
        return plan is not None and plan.team == self.name and plan.workers == self.workers

    @contextmanager
    def helping(self) -> Iterator[bool]:
        """Be a member that helps while the block runs; yield whether that is possible."""
        with try_lock(self.outputs, [_member(self.name, self.worker)], self.tell) as got:
            yield got

    @contextmanager
    def batch(self, number: int) -> Iterator[bool]:
        """Have a batch while the block runs; yield whether nobody else has it."""
        with try_lock(self.outputs, [f"{self.name}.batch-{number}"], self.tell) as got:
            yield got

    @contextmanager
    def plan(self) -> Iterator[None]:
        """Change the plan of the batches while the block runs."""
        with lock(self.outputs, [f"{self.name}.plan"], lambda: None, self.tell):
            yield

    @contextmanager
    def alone(self, pause: Callable[[], None]) -> Iterator[None]:
        """Wait for the members that help, and let none begin while the block runs; for who leads."""
        with without_members(self.outputs, self.name, self.workers, self.tell, pause):
            yield
        # Who asks for them now finds that there is nothing to do.
        forget_locks(self.outputs, f"{self.name}.")


@contextmanager
def without_members(
    outputs: Path, team: str, workers: int, tell: Tell, pause: Callable[[], None]
) -> Iterator[None]:
    """Wait for the members of a team that help, and let none begin while the block runs.

    `pause` is called before each look: a member may wait for who times, and they for this process to pause.
    """
    members = [_member(team, number) for number in range(workers)]
    while True:
        pause()
        with try_lock(outputs, members, tell) as got:
            if got:
                yield
                return
        time.sleep(POLL_S)


def _member(team: str, worker: int) -> str:
    return f"{team}.member-{worker}"
