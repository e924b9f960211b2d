"""The tables of all points of a sweep as one: each row says of which point it is, and what varied."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis.point_results import PointResult
from harness.api.frame import Frame
from harness.errors import HarnessError
from harness.report.csv_files import COMPARISON_COLUMNS, comparison_rows, summary_rows
from harness.store.sweeps import SweepPoint

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

    from harness.analysis.comparison import Comparison

CHOICES = ("model", "quantization", "prompts", "decoding")


def identity_columns(points: Sequence[SweepPoint]) -> dict[str, list[Any]]:
    """Return what tells the points apart, by column: the label, the choices, and every key that varies.

    The values of a key are of one type: truth values, whole numbers, numbers, else texts (lists as JSON).
    """
    columns: dict[str, list[Any]] = {"point": [point.label for point in points]}
    columns |= {name: [getattr(point, name) for point in points] for name in CHOICES}
    for key in dict.fromkeys(key for point in points for key in point.varied if key not in columns):
        columns[key] = _one_type([point.varied.get(key) for point in points])
    return columns


def joined_table(points: Sequence[PointResult], name: str, columns: Iterable[str] | None = None) -> Frame:
    """Return one table of every complete point, its rows together.

    What tells the points apart comes first, as dictionaries: each value is stored once.

    Args:
        points: of a sweep.
        name: the table's: generations, tokens, ...
        columns: those of the table that are wanted; all when None. One that no point has is a mistake, one
            that only some have is null in the others.

    Raises:
        HarnessError: no point has such a column.
    """
    import pyarrow as pa

    complete = [p for p in points if p.stored and p.stored.has(f"{name}.parquet")]
    known = identity_columns([p.point for p in complete])
    wanted = None if columns is None else list(dict.fromkeys(columns))
    _check_columns(complete, name, wanted, known)
    tables = []
    for row, p in enumerate(complete):
        assert p.stored is not None
        has = p.stored.schema(name).names
        table = p.stored.table(name, None if wanted is None else [one for one in wanted if one in has])
        own = {
            key: _same_value(values, row, table.num_rows)
            for key, values in known.items()
            if key not in table.column_names
        }
        tables.append(pa.table({**own, **{key: table.column(key) for key in table.column_names}}))
    if not tables:
        return Frame(pa.table({}))
    return Frame(pa.concat_tables(tables, promote_options="permissive"))


def _same_value(values: Sequence[Any], row: int, count: int) -> pa.DictionaryArray:
    """Return one point's value of a column, repeated; the dictionary is that of all points."""
    import pyarrow as pa

    known = list(dict.fromkeys(value for value in values if value is not None))
    index = None if values[row] is None else known.index(values[row])
    indices = pa.array([index], pa.int32()).take(pa.array([0] * count, pa.int32()))
    return pa.DictionaryArray.from_arrays(indices, pa.array(known, _type_of(values)))


def lazy_dataset(points: Sequence[PointResult], name: str) -> ds.Dataset:
    """Return the same rows as a `pyarrow.dataset`, which reads what is asked of it, batch by batch.

    A filter on what tells the points apart reads only the files of those points.

    Raises:
        HarnessError: no point has the table.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    complete = [p for p in points if p.stored and p.stored.has(f"{name}.parquet")]
    if not complete:
        raise HarnessError(f"no point of this sweep has the table {name}")
    known = identity_columns([p.point for p in complete])
    schemas = [p.stored.schema(name) for p in complete if p.stored]
    rest = pa.unify_schemas(schemas, promote_options="permissive").remove_metadata()
    own = [(key, _type_of(values)) for key, values in known.items() if key not in rest.names]
    expressions = []
    for row in range(len(complete)):
        terms = [
            ds.field(key).is_null()
            if known[key][row] is None
            else ds.field(key) == pa.scalar(known[key][row], kind)
            for key, kind in own
        ]
        whole = terms[0]
        for term in terms[1:]:
            whole = whole & term
        expressions.append(whole)
    return ds.FileSystemDataset.from_paths(
        [str(p.stored.path(f"{name}.parquet")) for p in complete if p.stored],
        schema=pa.schema([*own, *rest]),
        format=ds.ParquetFileFormat(),
        filesystem=LocalFileSystem(),
        partitions=expressions,
    )


def summary_frame(points: Sequence[PointResult]) -> Frame:
    """Return a row a point: its choices, what varies, how it went, and every metric."""
    header, rows = summary_rows(points)
    columns = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    return _frame(identity_columns([p.point for p in points]), columns, leave_out=("label",))


def comparison_frame(points: Sequence[PointResult], comparison: Comparison) -> Frame:
    """Return a row a point and metric: its value, interval, and difference from the baseline."""
    rows = comparison_rows(comparison)
    places = {p.point.label: index for index, p in enumerate(points)}
    at = [places[row[0]] for row in rows]
    known = identity_columns([p.point for p in points])
    columns = {
        name.replace(" ", "_"): [row[index] for row in rows] for index, name in enumerate(COMPARISON_COLUMNS)
    }
    columns["paired_prompts"] = columns.pop("prompts")  # their number; `prompts` is the name of the set
    columns["below_noise"] = [word and word == "yes" for word in columns["below_noise"]]
    own = {key: [values[index] for index in at] for key, values in known.items()}
    return _frame(own, columns, leave_out=("label",))


def _frame(own: Mapping[str, list[Any]], columns: Mapping[str, list[Any]], leave_out: Sequence[str]) -> Frame:
    """Return a frame of columns; those of `own` come first, as dictionaries."""
    import pyarrow as pa

    arrays = {name: pa.array(values, _type_of(values)).dictionary_encode() for name, values in own.items()}
    for name, column in columns.items():
        if name not in arrays and name not in leave_out:
            values = _one_type(column)
            arrays[name] = pa.array(values, _type_of(values))
    return Frame(pa.table(arrays))


def _check_columns(
    points: Sequence[PointResult], name: str, wanted: Sequence[str] | None, known: Mapping[str, Any]
) -> None:
    there = {column for p in points if p.stored for column in p.stored.schema(name).names}
    wrong = [column for column in wanted or () if column not in there and column not in known]
    if wrong and points:
        raise HarnessError(f"{name} has no column {wrong[0]!r} (columns: {', '.join(sorted(there))})")


def _one_type(values: Sequence[Any]) -> list[Any]:
    """Return values as they are where one type of Arrow takes them all, else as texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {int} or kinds <= {str}:
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [value if value is None or isinstance(value, str) else _json(value) for value in values]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """Return the type of Arrow for what `_one_type` returns."""
    import pyarrow as pa

    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return next((kinds[type(value)] for value in values if value is not None), pa.string())
