"""A point on disk: the tables and JSON files of `outputs/points/<point_id>/`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.files import atomic_path, write_text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class StoredPoint:
    """One point's folder."""

    folder: Path

    @property
    def point_id(self) -> str:
        """The point's address, which is its folder's name."""
        return self.folder.name

    def path(self, name: str) -> Path:
        """Return the path of a file of the point, whether or not it exists."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Return whether a file of the point is there; one that is there is complete."""
        return self.path(name).is_file()

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a table of the point; only some of its columns where they are named."""
        import pyarrow.parquet as pq

        return pq.read_table(self.path(f"{name}.parquet"), columns=None if columns is None else list(columns))

    def column_names(self, name: str) -> list[str]:
        """Return the names of a table's columns."""
        import pyarrow.parquet as pq

        return list(pq.read_schema(self.path(f"{name}.parquet")).names)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a table as a list of rows."""
        return self.table(name).to_pylist()

    def columns(
        self, name: str, columns: Sequence[str], where: Sequence[tuple[str, str, Any]] | None = None
    ) -> dict[str, list[Any]]:
        """Return columns of a table as lists; `where` filters rows, as in `[("sample", "=", 0)]`."""
        import pyarrow.parquet as pq

        path = self.path(f"{name}.parquet")
        if where:
            return pq.read_table(path, columns=list(columns), filters=list(where)).to_pydict()
        with pq.ParquetFile(path) as file:  # `read_table` would import pandas
            return file.read(columns=list(columns)).to_pydict()

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Yield some columns, at most 65,536 rows at a time, so that memory stays flat."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path(f"{name}.parquet")) as file:
            for batch in file.iter_batches(columns=list(columns)):
                yield {column: batch.column(column).to_numpy(zero_copy_only=False) for column in columns}

    def row_batches(
        self, name: str, size: int, columns: Sequence[str] | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield a table's rows, or some columns of them, at most `size` at a time."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path(f"{name}.parquet")) as file:
            for batch in file.iter_batches(batch_size=size, columns=columns):
                yield batch.to_pylist()

    def metrics(self) -> dict[str, Any]:
        """Return metrics.json: `metrics` (flat, `section/name`), `intervals`, `per_prompt`, `own`."""
        return self._json("metrics.json")

    def environment(self) -> dict[str, Any]:
        """Return environment.json: versions, device, facts of the model, threads."""
        return self._json("environment.json")

    def config_text(self) -> str:
        """Return config.yaml as text: `requested` beside `effective`."""
        return self.path("config.yaml").read_text(encoding="utf-8")

    def config(self) -> dict[str, Any]:
        """Return config.yaml as plain data."""
        import yaml

        return yaml.load(self.config_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}

    def _json(self, name: str) -> dict[str, Any]:
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def parts(self) -> dict[str, Any]:
        """Return parts.json: the spec of each complete artifact by its name, and `facts` of the decoding.

        Empty when nothing is complete. The names are those of `artifacts.registry.ARTIFACTS`.
        """
        return self._json("parts.json") if self.has("parts.json") else {}

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table by atomic rename."""
        import pyarrow.parquet as pq

        with atomic_path(self.path(f"{name}.parquet")) as scratch:
            pq.write_table(table, scratch, compression="zstd")

    def write_json(self, name: str, values: Any) -> None:
        """Write a JSON file by atomic rename; NaN and infinities are refused."""
        write_text(self.path(name), json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_config(self, config: Any) -> None:
        """Write config.yaml by atomic rename."""
        import yaml

        # libyaml writes the same ten times faster, where PyYAML was built with it.
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump(config, Dumper=dumper, sort_keys=False, allow_unicode=True)
        write_text(self.path("config.yaml"), text)


def stored_point(outputs: Path, point_id: str) -> StoredPoint:
    """Return a point of the store, whether or not it is there."""
    return StoredPoint(outputs / "points" / point_id)
