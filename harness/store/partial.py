"""A point that is being decoded: the batches that are done, each a few files, until the point is complete.

A process that dies loses the batch in flight. The plan of batches is kept beside them, so that a resumed run
repeats the same batches: in low precision the rounding of a row depends on the rest of its batch.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Partial:
    """The batches of one point, in the folder `partial/` of the point's own."""

    stored: StoredPoint

    def begin(self, batch_prompts: int, top_k: int) -> int:
        """Resume from the batches that are there, if they were recorded as deeply, or begin anew.

        Args:
            batch_prompts: prompts per batch, for a new beginning.
            top_k: alternatives recorded per step.

        Returns:
            The prompts per batch to use: those of the plan that is there, else `batch_prompts`.
        """
        path = self._batches.path("plan.json")
        plan = checked(read_json(path), self.stored.point_id) or {}
        if plan.get("top_k") == top_k and isinstance(plan.get("batch_prompts"), int):
            return int(plan["batch_prompts"])
        self.clear()
        plan = {"batch_prompts": batch_prompts, "top_k": top_k}
        self._batches.write_json("plan.json", with_check(plan, self.stored.point_id))
        return batch_prompts

    def has(self, batch: int) -> bool:
        """Return whether a batch is done and sound."""
        return self._batches.has(f"{_name('generations', batch)}.parquet") and not self.damage(batch)

    def damage(self, batch: int) -> tuple[str, ...]:
        """Return a line for each damaged file of a batch; none for a batch that is not done."""
        if not self._batches.has(f"{_name('generations', batch)}.parquet"):
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

    def write(self, batch: int, samples: Sequence[Sample]) -> None:
        """Write a batch; it counts once its last table is there."""
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
        self._batches.write_json(_seals(batch), with_check(seals, self.stored.point_id))

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
