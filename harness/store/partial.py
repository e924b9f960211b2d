"""A point that is being decoded: the batches that are done, each a few files, until the point is complete.

A process that dies loses the batch in flight. The plan of batches is kept beside them, so that a resumed run
repeats the same batches: in low precision the rounding of a row depends on the rest of its batch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store.files import atomic_path, write_text
from harness.store.records import Sample
from harness.store.stored_point import StoredPoint
from harness.store.tables import generations_table, times_table, tokens_table

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("tokens", "times", "generations")


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
        plan = self._folder / "plan.json"
        if plan.is_file():
            facts = json.loads(plan.read_text(encoding="utf-8"))
            if facts["top_k"] == top_k:
                return int(facts["batch_prompts"])
        self.clear()
        write_text(plan, json.dumps({"batch_prompts": batch_prompts, "top_k": top_k}) + "\n")
        return batch_prompts

    def has(self, batch: int) -> bool:
        """Return whether a batch is done."""
        return self._path("generations", batch).is_file()

    def write(self, batch: int, samples: Sequence[Sample]) -> None:
        """Write a batch; it counts once its last file is there."""
        self._write("tokens", batch, tokens_table(samples))
        self._write("times", batch, times_table(samples))
        self._write("generations", batch, generations_table(samples))

    def merge(self, batches: int) -> None:
        """Write the point's tables by concatenating its batches."""
        import pyarrow.parquet as pq

        for name in TABLES:
            paths = [self._path(name, batch) for batch in range(batches)]
            if name == "times":
                # Batches of an older version have none.
                paths = [path for path in paths if path.is_file()]
            if not paths:
                self.stored.path(f"{name}.parquet").unlink(missing_ok=True)
                continue
            with atomic_path(self.stored.path(f"{name}.parquet")) as scratch:
                schema = pq.read_schema(paths[0])
                with pq.ParquetWriter(scratch, schema, compression="zstd") as writer:
                    for path in paths:
                        writer.write_table(pq.read_table(path))

    def clear(self) -> None:
        """Delete every batch."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    @property
    def _folder(self) -> Path:
        return self.stored.path("partial")

    def _path(self, name: str, batch: int) -> Path:
        return self._folder / f"{name}-{batch:06d}.parquet"

    def _write(self, name: str, batch: int, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        with atomic_path(self._path(name, batch)) as scratch:
            pq.write_table(table, scratch, compression="zstd")
