"""A group that workers run, as the head knows it: what is left of it, and whether its workers get on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.artifacts.job import families
from harness.plan.plan import Plan
from harness.run.executor import Outcome
from harness.run.shards import LEAST_S, seconds_to_decode, shards_of
from harness.run.workers import Task
from harness.store.stored_point import stored_point


@dataclass
class GroupProgress:
    """A group that one worker runs, or several that share it.

    Attributes:
        plan: the group's.
        number: of the group.
        shards: how many workers may share it; 1 where it is not shared.
        left: jobs without an outcome so far.
        seconds: how long one worker would decode, of a group that is shared.
        failed: jobs that no worker need try any more.
        told: outcomes `reused` of shared jobs: another worker may still tell that it has made them.
        attempts: how many workers had each share.
        begun: when each worker began, by the clock that only goes on.
        closed: whether a worker found nothing left to share.
        kept: what the store had of the family that was in work when the last one died.
    """

    plan: Plan
    number: int
    shards: int
    left: list[int]
    seconds: float
    failed: list[int] = field(default_factory=list)
    told: dict[int, Outcome] = field(default_factory=dict)
    attempts: Counter[tuple[int, int] | None] = field(default_factory=Counter)
    begun: list[float] = field(default_factory=list)
    closed: bool = False
    kept: frozenset[str] | None = None

    @classmethod
    def begin(cls, plan: Plan, number: int, places: int) -> GroupProgress:
        """Return a group of which nothing was run, where so many workers can run side by side."""
        group = plan.groups[number]
        shards = shards_of(plan, group, places)
        seconds = (seconds_to_decode(plan, group) or 0.0) if shards > 1 else 0.0
        return cls(plan, number, shards, list(group.jobs), seconds)

    @property
    def name(self) -> str:
        """What people know it by."""
        return self.plan.groups[self.number].name

    def next_task(self) -> Task:
        """Return the task of one more worker."""
        shard = (len(self.begun), self.shards) if self.shards > 1 else None
        self.begun.append(time.monotonic())
        return self._task(shard)

    def again(self, task: Task, *, alone: bool) -> Task:
        """Return the task of a worker in the place of one that ended; `alone` it runs all that is left."""
        return self._task(None if alone else task.shard)

    def _task(self, shard: tuple[int, int] | None) -> Task:
        attempt = self.attempts[shard]
        self.attempts[shard] += 1
        return Task(self.plan, self.number, tuple(self.failed), attempt, shard)

    def has_room(self) -> bool:
        """Return whether one more worker should join those that share it."""
        if self.closed or not self.left or len(self.begun) >= self.shards:
            return False
        if self.plan.jobs[self.left[0]].point.engine.shards != "auto":
            return True
        now = time.monotonic()
        return self.seconds - sum(now - begun for begun in self.begun) > LEAST_S

    def outcomes(self, outcome: Outcome) -> Iterator[Outcome]:
        """Take note of what a worker told of a job; yield it, if it is news and final."""
        if outcome.job not in self.left:
            return
        if self.shards > 1 and outcome.status == "reused" and self.plan.missing[outcome.job]:
            self.told[outcome.job] = outcome
            return
        self.left.remove(outcome.job)
        if outcome.status == "failed":
            self.failed.append(outcome.job)
        yield outcome

    def last_outcomes(self) -> Iterator[Outcome]:
        """Yield what was told of the jobs that are left, once no worker can tell anything else."""
        for job in [job for job in self.left if job in self.told]:
            self.left.remove(job)
            yield self.told[job]

    def fail(self, jobs: list[int], error: str) -> Iterator[Outcome]:
        """Yield failures of jobs that are left."""
        for job in jobs:
            self.left.remove(job)
            self.failed.append(job)
            yield Outcome(job, "failed", time.time(), error=error)

    def is_stuck(self) -> bool:
        """A worker died: return whether nothing was kept of what was in work since the last death."""
        kept = _kept(self.plan, self.family_in_work())
        before, self.kept = self.kept, kept
        return kept == before

    def family_in_work(self) -> list[int]:
        """Return the jobs that its workers are at: the first of its families with one that is left."""
        to_do = [index for index in self.left if self.plan.missing[index]] or self.left
        first = families([self.plan.jobs[index] for index in to_do])[0]
        return [to_do[member] for member in first]


def _kept(plan: Plan, family: list[int]) -> frozenset[str]:
    """Return the names of what the store has of jobs: complete artifacts, batches and chunks."""
    found = set()
    for index in family:
        stored = stored_point(plan.outputs, plan.jobs[index].point_id)
        found |= {f"{stored.point_id} {name}" for name in stored.parts()}
        found |= {str(path) for path in _files(stored.folder) if path.suffix != ".part"}
    return frozenset(found)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
