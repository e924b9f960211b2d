"""A point that is being decoded: the batches that are done, each a few files, until the point is complete.

A process that dies loses the batch in flight. The plan of batches is kept beside them, so that a resumed run,
and every worker that shares them (`artifacts/batch_team.py`), makes the same batches: in low precision the
rounding of a row depends on the rest of its batch.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.store.files import read_json
from harness.store.integrity import checked, problem_of, seal, with_check
from harness.store.records import Sample
from harness.store.stored_point import StoredPoint
from harness.store.tables import generations_table, requests_table, times_table, tokens_table

# A batch is done once the last of its tables is there.
_TABLES = {
    "tokens": tokens_table,
    "times": times_table,
    "requests": requests_table,
    "generations": generations_table,
}
_OPTIONAL = ("times", "requests")
"""Tables that a batch may lack: of an older version, or of a model in this process."""


_COST = "cost"
_FAILED = "failed.json"


@dataclass(frozen=True)
class BatchPlan:
    """How a point is decoded in batches.

    Attributes:
        batch_prompts: prompts of a batch.
        top_k: alternatives recorded per step.
        rows: samples decoded at once at most, on which their rounding depends; None where it does not.
        team: name of the workers that share the batches; None for a single process.
        workers: how many those are.
    """

    batch_prompts: int
    top_k: int
    rows: int | None = None
    team: str | None = None
    workers: int = 1


@dataclass(frozen=True)
class Partial:
    """The batches of one point, in the folder `partial/` of the point's own."""

    stored: StoredPoint

    def plan(self) -> BatchPlan | None:
        """Return the plan of the batches that are there; None where there is none."""
        facts = checked(read_json(self._batches.path("plan.json")), self.stored.point_id) or {}
        known = {name: facts[name] for name in BatchPlan.__dataclass_fields__ if name in facts}
        sizes = (facts.get("batch_prompts"), facts.get("top_k"))
        return BatchPlan(**known) if all(isinstance(size, int) for size in sizes) else None

    def begin(self, plan: BatchPlan) -> None:
        """Write the plan of the batches to come; those that are there must be of it."""
        if plan != self.plan():
            self._batches.write_json("plan.json", with_check(asdict(plan), self.stored.point_id))

    def kept(self) -> int:
        """Return how many batches are there."""
        return len(list(self._batches.folder.glob("generations-*.parquet")))

    def is_there(self, batch: int) -> bool:
        """Return whether a batch is there, sound or not; a cheap look."""
        return self._batches.has(f"{_name('generations', batch)}.parquet")

    def has(self, batch: int) -> bool:
        """Return whether a batch is done and sound."""
        return self.is_there(batch) and not self.damage(batch)

    def damage(self, batch: int) -> tuple[str, ...]:
        """Return a line for each damaged file of a batch; none for a batch that is not done."""
        if not self.is_there(batch):
            return ()
        seals = checked(read_json(self._batches.path(_seals(batch))), self.stored.point_id) or {}
        lines = []
        for name in _TABLES:
            path = self._batches.path(f"{_name(name, batch)}.parquet")
            if name in _OPTIONAL and path.name not in seals and not path.exists():
                continue
            if problem := problem_of(path, seals.get(path.name), self.stored.point_id, thorough=True):
                lines.append(f"{path} {problem}")
        return tuple(lines)

    def write(self, batch: int, samples: Sequence[Sample], cost: Mapping[str, Any] | None = None) -> None:
        """Write a batch, and what making it took; it counts once its last table is there."""
        self._batches.path(_seals(batch)).unlink(missing_ok=True)
        paths = []
        for name, table_of in _TABLES.items():
            table = table_of(samples)
            path = self._batches.path(f"{_name(name, batch)}.parquet")
            if name in _OPTIONAL and not table.num_rows:
                path.unlink(missing_ok=True)
                continue
            self._batches.write_table(_name(name, batch), table)
            paths.append(path)
        seals = {path.name: seal(path) for path in paths}
        facts = seals | ({_COST: dict(cost)} if cost else {})
        self._batches.write_json(_seals(batch), with_check(facts, self.stored.point_id))

    def costs(self, batches: int) -> list[Mapping[str, Any]]:
        """Return what making each batch took, of those where that is known."""
        facts = (
            checked(read_json(self._batches.path(_seals(batch))), self.stored.point_id) or {}
            for batch in range(batches)
        )
        return [found[_COST] for found in facts if _COST in found]

    def fail(self, error: str, details: str) -> None:
        """Note that the point fails, for the workers that share its batches."""
        facts = {"error": error, "details": details}
        self._batches.write_json(_FAILED, with_check(facts, self.stored.point_id))

    def failed(self) -> tuple[str, str] | None:
        """Return why the point fails, in one line and at length; None where it does not."""
        facts = checked(read_json(self._batches.path(_FAILED)), self.stored.point_id)
        return (facts["error"], facts["details"]) if facts else None

    def forget_failure(self) -> None:
        """The point is tried again."""
        self._batches.path(_FAILED).unlink(missing_ok=True)

    def merge(self, batches: int) -> None:
        """Write the point's tables by concatenating its batches."""
        for name in _TABLES:
            done = [_name(name, batch) for batch in range(batches)]
            if name in _OPTIONAL:
                done = [batch for batch in done if self._batches.has(f"{batch}.parquet")]
            if done:
                schema = self._batches.schema(done[0])
                self.stored.write_tables(name, schema, map(self._batches.table, done))
            else:
                self.stored.path(f"{name}.parquet").unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete every batch."""
        if self._batches.folder.is_dir():
            shutil.rmtree(self._batches.folder)
        self._batches.folder.unlink(missing_ok=True)

    def clear_if_complete(self) -> None:
        """Delete the batches of a point that has its samples: a process died while it deleted them."""
        if "record" in self.stored.parts():
            self.clear()

    @property
    def _batches(self) -> StoredPoint:
        return StoredPoint(self.stored.path("partial"), owner=self.stored.point_id)


def _seals(batch: int) -> str:
    """Return the name of the file with the seals of a batch's tables."""
    return f"batch-{batch:06d}.json"


def _name(table: str, batch: int) -> str:
    return f"{table}-{batch:06d}"
