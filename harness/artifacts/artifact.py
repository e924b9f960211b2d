"""What an artifact is: one thing that is computed and stored for a point.

An artifact says which files it has, what is requested of it (`spec`), whether the store's copy is good
enough (`covers`), and makes it. `parts.json` of a point lists each artifact under its name once it is
complete, with the spec it was made for. The registry of all of them is `artifacts/registry.py`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts.job import Job
from harness.backends.backend import Backend
from harness.progress import Progress
from harness.store.device_turns import DeviceTurns, Undisturbed
from harness.store.stored_point import StoredPoint, stored_point

if TYPE_CHECKING:
    from harness.artifacts.batch_energy import BatchEnergy
    from harness.artifacts.batch_team import Team
    from harness.artifacts.inventory import Inventory


class Workbench:
    """What the artifacts of a group are made with.

    Attributes:
        outputs: folder of the store.
        progress: where progress is reported.
        turns: says when the device is free to work on or to time on.
        team: the workers that share the batches of the jobs in work; None for this process alone.
        opened: when the backend was opened, seconds since the epoch; None while it is not.
    """

    def __init__(
        self,
        outputs: Path,
        progress: Progress,
        open_backend: Callable[[], Backend],
        turns: DeviceTurns | None = None,
        release: Callable[[Backend], None] = lambda backend: backend.close(),
    ) -> None:
        self.outputs = outputs
        self.progress = progress
        self.turns: DeviceTurns = turns or Undisturbed()
        self.team: Team | None = None
        self.opened: float | None = None
        self._open_backend = open_backend
        self._release = release
        self._backend: Backend | Exception | None = None
        self._energy: BatchEnergy | None = None

    @property
    def backend(self) -> Backend:
        """The backend of the group, opened (its model loaded) when it is first needed; that is tried once.

        Raises:
            Exception: what opening it raised, each time.
        """
        if self._backend is None:
            try:
                self._backend = self._open_backend()
                self.opened = time.time()
            except Exception as error:
                self._backend = error
        if isinstance(self._backend, Exception):
            raise self._backend
        return self._backend

    @property
    def energy(self) -> BatchEnergy:
        """The energy counter of the backend's device, opened when it is first needed."""
        if self._energy is None:
            from harness.artifacts.batch_energy import BatchEnergy

            self._energy = BatchEnergy(self.backend)
        return self._energy

    def close(self) -> None:
        """Give the backend back, which frees it unless its opener keeps it."""
        if self.opened is not None:
            self._release(self.backend)

    def stored(self, job: Job) -> StoredPoint:
        """Return the job's folder."""
        return stored_point(self.outputs, job.point_id)


class Artifact(ABC):
    """One thing that can be stored of a point.

    Attributes:
        name: its key in parts.json.
        action: what is to be done, as `harness plan` lists it.
        files: its files in the point's folder, which MLflow gets as well.
        optional: those of them that it may be complete without.
        after: names of artifacts that it is computed from: when one of them is made anew, so is this.
        needs_backend: whether a model must be loaded for it.
        per_family: whether it is made for all jobs of a family at once (`make_family`).
        implied: whether `harness plan` lists it only where nothing that it is computed from is listed.
    """

    name: str
    action: str
    files: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    needs_backend: bool = True
    per_family: bool = False
    implied: bool = False

    @abstractmethod
    def spec(self, job: Job) -> Any:
        """Return what is requested of it, as JSON values; None when it is not requested."""

    def covers(self, stored: Any, requested: Any) -> bool:
        """Return whether an artifact made for the spec `stored` serves the spec `requested`."""
        return bool(stored == requested)

    def is_missing(self, job: Job, inventory: Inventory) -> bool:
        """Return whether it is requested and the store does not have it undamaged."""
        requested = self.spec(job)
        if requested is None:
            return False
        parts = inventory.parts(job.point_id)
        fresh = job.point.engine.fresh and self.needs_backend
        return fresh or self.name not in parts or not self._covers(parts[self.name], requested)

    def _covers(self, stored: Any, requested: Any) -> bool:
        """Return `covers`; an entry of another form, of another version or damaged, does not cover."""
        try:
            return self.covers(stored, requested)
        except (KeyError, TypeError):
            return False

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Compute it and write it, its entry in parts.json last.

        Returns:
            Warnings about the point, one line each.
        """
        raise TypeError(f"{self.name} is made a family at a time")

    def make_family(self, jobs: Sequence[Job], bench: Workbench) -> Mapping[int, Exception]:
        """Compute it for jobs that decode together; return the errors of those that failed, by index."""
        raise TypeError(f"{self.name} is made a job at a time")


def complete(stored: StoredPoint, artifact: Artifact, spec: Any, **facts: Any) -> None:
    """List an artifact in a point's parts.json, with the seals of its files, and perhaps further entries."""
    stored.write_parts(stored.parts() | {artifact.name: spec, **facts}, sealed=artifact.files)
