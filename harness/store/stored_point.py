"""A point on disk: the tables and JSON files of `outputs/points/<point_id>/`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DamagedFileError
from harness.store.files import read_json, write_text
from harness.store.integrity import checked, problem_of, seal, with_check
from harness.store.parquet_files import count_row_groups, open_parquet, read_row_group, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

Filter = list[tuple[str, str, Any]]

_SUFFIXES = (".parquet", ".json", ".yaml")
_SEALS = "files"
"""The key of parts.json under which the seals of the files of complete artifacts are."""


@dataclass(frozen=True)
class StoredPoint:
    """One point's folder.

    Attributes:
        folder: where its files are.
        owner: the point that files written there are of, where that is not the folder's name.
    """

    folder: Path
    owner: str = ""

    @property
    def point_id(self) -> str:
        """The point's address, which is its folder's name."""
        return self.owner or self.folder.name

    def path(self, name: str) -> Path:
        """Return the path of a file of the point, whether or not it exists."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Return whether a file of the point is there; one that is there is complete."""
        return self.path(name).is_file()

    def table(self, name: str, columns: Sequence[str] | None = None, where: Filter | None = None) -> pa.Table:
        """Return a table, or some columns of it; `where` filters rows, as in `[("sample", "=", 0)]`."""
        path, wanted = self.path(f"{name}.parquet"), None if columns is None else list(columns)
        with open_parquet(path) as file:
            if where:
                import pyarrow.parquet as pq

                return pq.read_table(path, columns=wanted, filters=where, page_checksum_verification=True)
            return file.read(columns=wanted)  # `read_table` would import pandas

    def schema(self, name: str) -> pa.Schema:
        """Return the names and types of a table's columns."""
        with open_parquet(self.path(f"{name}.parquet")) as file:
            return file.schema_arrow

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
        with open_parquet(self.path(f"{name}.parquet")) as file:
            for batch in file.iter_batches(batch_size=size, columns=columns):
                yield batch.to_pylist()

    def row_groups(self, name: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield columns of a table by row group, which is a batch of prompts.

        The file is opened for each, so that many points can be read in step.
        """
        path = self.path(f"{name}.parquet")
        yield from (read_row_group(path, group, columns) for group in range(count_row_groups(path)))

    def metrics(self) -> dict[str, Any]:
        """Return metrics.json: `metrics` (flat, `section/name`), `intervals`, `per_prompt`, `own`."""
        return self._json("metrics.json")

    def environment(self) -> dict[str, Any]:
        """Return environment.json: versions, device, facts of the model, threads."""
        return self._json("environment.json")

    def cost(self) -> dict[str, Any]:
        """Return cost.json: `latency`, `memory`, `energy` of the model; empty where it is not there."""
        return self._json("cost.json")

    def parts(self) -> dict[str, Any]:
        """Return parts.json: the spec of each complete artifact by its name, and `facts` of the decoding.

        Empty where it is not there, or damaged.
        """
        return {name: spec for name, spec in self._parts_file().items() if name != _SEALS}

    def seals(self) -> dict[str, Any]:
        """Return the seals of the files of complete artifacts, by name."""
        return dict(self._parts_file().get(_SEALS) or {})

    def write_parts(
        self, parts: Mapping[str, Any], sealed: Iterable[str] = (), unsealed: Iterable[str] = ()
    ) -> None:
        """Write parts.json by atomic rename.

        Args:
            parts: the spec of each complete artifact by its name, and `facts`.
            sealed: files that are complete now, if they are there; their seals are made.
            unsealed: files that are about to change; their seals are dropped.
        """
        names = {*sealed, *unsealed}
        seals = {name: known for name, known in self.seals().items() if name not in names}
        seals |= {name: seal(self.path(name)) for name in sealed if self.has(name)}
        self.write_json("parts.json", with_check({**parts, _SEALS: seals}, self.point_id))

    def parts_problem(self) -> str | None:
        """Return what is wrong with parts.json; None where it is sound, or not there."""
        path = self.path("parts.json")
        if path.exists() and checked(read_json(path), self.point_id) is None:
            return "is damaged"
        return None

    def damage(self) -> str | None:
        """Return, in one line, which file of the point is not as it was written; None where all are."""
        if problem := self.parts_problem():
            return f"{self.path('parts.json')} {problem}"
        if not self.folder.is_dir():
            return None
        seals = self.seals()
        present = (path.name for path in self.folder.iterdir() if path.suffix in _SUFFIXES)
        for name in sorted({*seals, *present}):
            if problem := problem_of(self.path(name), seals.get(name), self.point_id, thorough=True):
                return f"{self.path(name)} {problem}"
        return None

    def _parts_file(self) -> dict[str, Any]:
        return checked(read_json(self.path("parts.json")), self.point_id) or {}

    def _json(self, name: str) -> dict[str, Any]:
        """Return a JSON file; empty where it is not there."""
        if not self.has(name):
            return {}
        values = read_json(self.path(name))
        if not isinstance(values, dict):
            raise DamagedFileError(self.path(name), "is not valid JSON")
        return values

    def config(self) -> dict[str, Any]:
        """Return config.yaml, `requested` beside `effective`; empty where it is not there.

        Without the tracking that points stored by earlier versions have in it, with what may be secret.
        """
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        path = self.path("config.yaml")
        if not path.is_file():
            return {}
        try:
            values = yaml.load(path.read_bytes(), Loader=loader) or {}
        except yaml.YAMLError:
            values = None
        if not isinstance(values, dict):
            raise DamagedFileError(path, "is not valid YAML")
        if isinstance(requested := values.get("requested"), dict):
            requested.pop("tracking", None)
        return values

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table by atomic rename."""
        self.write_tables(name, table.schema, [table])

    def write_tables(self, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        """Write a table as its rows come, by atomic rename."""
        write_parquet(self.path(f"{name}.parquet"), schema, tables, self.point_id)

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
