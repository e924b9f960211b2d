"""A point on disk: the tables and JSON files of `outputs/points/<point_id>/`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.files import atomic_path, write_text

if TYPE_CHECKING:
    import pyarrow as pa

Filter = list[tuple[str, str, Any]]


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

    def table(self, name: str, columns: Sequence[str] | None = None, where: Filter | None = None) -> pa.Table:
        """Return a table, or some columns of it; `where` filters rows, as in `[("sample", "=", 0)]`."""
        import pyarrow.parquet as pq

        path, wanted = self.path(f"{name}.parquet"), None if columns is None else list(columns)
        if where:
            return pq.read_table(path, columns=wanted, filters=where)
        with pq.ParquetFile(path) as file:  # `read_table` would import pandas
            return file.read(columns=wanted)

    def schema(self, name: str) -> pa.Schema:
        """Return the names and types of a table's columns."""
        import pyarrow.parquet as pq

        return pq.read_schema(self.path(f"{name}.parquet"))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a table as a list of rows."""
        return self.table(name).to_pylist()

    def columns(self, name: str, columns: Sequence[str], where: Filter | None = None) -> dict[str, list[Any]]:
        """Return columns of a table as lists, perhaps of some rows only, as `table` does."""
        return self.table(name, columns, where).to_pydict()

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

    def parts(self) -> dict[str, Any]:
        """Return parts.json: the spec of each complete artifact by its name, and `facts` of the decoding."""
        return self._json("parts.json")

    def _json(self, name: str) -> dict[str, Any]:
        """Return a JSON file; empty where it is not there."""
        return json.loads(self.path(name).read_text(encoding="utf-8")) if self.has(name) else {}

    def config(self) -> dict[str, Any]:
        """Return config.yaml, `requested` beside `effective`; empty where it is not there.

        Without the tracking that points stored by earlier versions have in it, with what may be secret.
        """
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        path = self.path("config.yaml")
        config = yaml.load(path.read_bytes(), Loader=loader) or {} if path.is_file() else {}
        (config.get("requested") or {}).pop("tracking", None)
        return config

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table by atomic rename."""
        self.write_tables(name, table.schema, [table])

    def write_tables(self, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        """Write a table as its rows come, by atomic rename."""
        import pyarrow.parquet as pq

        with (
            atomic_path(self.path(f"{name}.parquet")) as scratch,
            pq.ParquetWriter(scratch, schema, compression="zstd") as writer,
        ):
            for table in tables:
                writer.write_table(table)

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
