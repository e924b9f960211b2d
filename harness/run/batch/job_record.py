"""jobs.json in a sweep's folder: which jobs were submitted for it, so that none is submitted twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.store.files import read_json, write_text

FILE = "jobs.json"


@dataclass(frozen=True)
class SubmittedJob:
    """A job of a batch system that runs a group of a sweep.

    Attributes:
        id: the system's.
        group: number of the group.
        lines: name of the file in which it tells how far it is.
        share: its share of the group, as `0/3`; empty where it runs the group by itself.
    """

    id: str
    group: int
    lines: str
    share: str = ""


class JobRecord:
    """The jobs that were submitted for a sweep.

    Args:
        folder: where jobs.json lies.
        points: ids of the sweep's points, in the order in which groups were numbered.
    """

    def __init__(self, folder: Path, points: Sequence[str]) -> None:
        self._path, self._points = folder / FILE, list(points)
        facts = read_json(self._path) if self._path.is_file() else None
        facts = facts if isinstance(facts, dict) else {}
        self.same_order = facts.get("points", self._points) == self._points
        self.jobs = tuple(SubmittedJob(**job) for job in facts.get("jobs", ()))

    def add(self, jobs: Iterable[SubmittedJob]) -> None:
        """Record jobs that were submitted now.

        Raises:
            StoreError: the file cannot be written.
        """
        self.jobs = (*(self.jobs if self.same_order else ()), *jobs)
        self.same_order = True
        facts = {"points": self._points, "jobs": [asdict(job) for job in self.jobs]}
        write_text(self._path, json.dumps(facts, indent=1) + "\n")

    def last_of(self, group: int) -> SubmittedJob | None:
        """Return the job that was submitted last for a group, where groups are numbered as then."""
        if not self.same_order:
            return None
        return next((job for job in reversed(self.jobs) if job.group == group), None)
