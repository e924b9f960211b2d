"""Parquet files of the store: pages with checksums, the point and the number of rows in their metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DamagedFileError
from harness.store.files import atomic_path, check_readable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SHARED = "shared"
"""The owner of a Parquet file that belongs to several points."""

_POINT, _ROWS = b"harness.point_id", b"harness.rows"


def write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table], owner: str) -> None:
    """Write a table as its rows come, by atomic rename; `owner` is the point that it is of."""
    import pyarrow.parquet as pq

    rows = 0
    plain = schema.remove_metadata()
    with (
        atomic_path(path) as scratch,
        pq.ParquetWriter(scratch, plain, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
        writer.add_key_value_metadata({_POINT: owner.encode(), _ROWS: str(rows).encode()})


@contextmanager
def open_parquet(path: Path, **options: Any) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file whose pages are verified as they are read.

    Do nothing but read in the block: every error of Arrow and of the disk is taken for one of the file.

    Raises:
        DamagedFileError: it is missing or cannot be read.
        StoreError: the system does not let it be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True, **options) as file:
            yield file
    except FileNotFoundError as error:
        raise DamagedFileError(path, "is missing") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError):
            check_readable(path, error)
        raise DamagedFileError(path, f"cannot be read ({_reason(error)})") from error


def count_row_groups(path: Path) -> int:
    """Return how many row groups a Parquet file has."""
    with open_parquet(path) as file:
        return int(file.num_row_groups)


def read_row_group(path: Path, group: int, columns: Sequence[str]) -> pa.Table:
    """Return columns of one row group of a Parquet file."""
    with open_parquet(path) as file:
        return file.read_row_group(group, columns=list(columns))


def read_problem(path: Path, owner: str) -> str | None:
    """Return why a Parquet file cannot be read to its end, or is of another point; None where it is sound."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            known = file.metadata.metadata or {}
            for _ in file.iter_batches():
                pass
            if known.get(_ROWS, str(file.metadata.num_rows).encode()) != str(file.metadata.num_rows).encode():
                return "has not the rows that were written"
            if known.get(_POINT, owner.encode()) not in (owner.encode(), SHARED.encode()):
                return f"is of another point ({known[_POINT].decode(errors='replace')})"
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError):
            check_readable(path, error)
        return f"cannot be read ({_reason(error)})"
    return None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120].rstrip(".")
