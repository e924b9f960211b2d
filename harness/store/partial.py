"""A point on its way: the batches that are done, each a few files, until the point is whole.

A process that dies loses the batch in flight. The plan of batches is kept beside them, so that who goes on
repeats the same batches: in low precision a row's rounding depends on its company.
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
    """The batches of one point, in a folder of its own within the point's."""

    stored: StoredPoint

    def begin(self, batch_prompts: int, top_k: int) -> int:
        """Go on with what is there, if it was recorded deeply enough, or begin anew.

        Args:
            batch_prompts: prompts a batch, for a new beginning.
            top_k: alternatives that are recorded a step.

        Returns:
            The prompts a batch that hold: those of the plan that is there, else `batch_prompts`.
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
        """Whether a batch is done."""
        return self._path("generations", batch).is_file()

    def write(self, batch: int, samples: Sequence[Sample]) -> None:
        """Keep a batch; it counts once its last file is there."""
        self._write("tokens", batch, tokens_table(samples))
        self._write("times", batch, times_table(samples))
        self._write("generations", batch, generations_table(samples))

    def merge(self, batches: int) -> None:
        """Write the point's tables from its batches, one after the other."""
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
        """Forget every batch."""
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
