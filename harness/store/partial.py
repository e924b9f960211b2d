"""A point that is being decoded: the batches that are done, each a few files, until the point is complete.

A process that dies loses the batch in flight. The plan of batches is kept beside them, so that a resumed run
repeats the same batches: in low precision the rounding of a row depends on the rest of its batch.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from harness.store.files import read_json
from harness.store.records import Sample
from harness.store.stored_point import StoredPoint
from harness.store.tables import generations_table, times_table, tokens_table

# A batch is done once the last of its tables is there.
_TABLES = {"tokens": tokens_table, "times": times_table, "generations": generations_table}


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
        plan = read_json(self._batches.path("plan.json"))
        if plan is not None and plan["top_k"] == top_k:
            return int(plan["batch_prompts"])
        self.clear()
        self._batches.write_json("plan.json", {"batch_prompts": batch_prompts, "top_k": top_k})
        return batch_prompts

    def has(self, batch: int) -> bool:
        """Return whether a batch is done."""
        return self._batches.has(f"{_name('generations', batch)}.parquet")

    def write(self, batch: int, samples: Sequence[Sample]) -> None:
        """Write a batch; it counts once its last file is there."""
        for name, table_of in _TABLES.items():
            self._batches.write_table(_name(name, batch), table_of(samples))

    def merge(self, batches: int) -> None:
        """Write the point's tables by concatenating its batches."""
        for name in _TABLES:
            done = [_name(name, batch) for batch in range(batches)]
            if name == "times":  # batches of an older version have none
                done = [batch for batch in done if self._batches.has(f"{batch}.parquet")]
            if done:
                schema = self._batches.schema(done[0])
                self.stored.write_tables(name, schema, map(self._batches.table, done))
            else:
                self.stored.path(f"{name}.parquet").unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete every batch."""
        if self._batches.folder.exists():
            shutil.rmtree(self._batches.folder)

    @property
    def _batches(self) -> StoredPoint:
        return StoredPoint(self.stored.path("partial"))


def _name(table: str, batch: int) -> str:
    return f"{table}-{batch:06d}"
