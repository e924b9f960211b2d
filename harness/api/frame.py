"""A table of results: Arrow inside, a data frame on request, and a table in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.api.notebook_html import table_html
from harness.errors import HarnessError

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 20
"""Rows that a notebook shows."""
_LONGEST = 200
"""Characters of a cell that it shows."""


class Frame:
    """Rows and columns.

    Libraries of Arrow data take it as it is (`polars.DataFrame(frame)`, `duckdb.sql("from frame.arrow")`).

    Attributes:
        arrow: the same as a `pyarrow.Table`.
    """

    def __init__(self, table: pa.Table) -> None:
        self.arrow = table

    def to(self, kind: str = "pandas") -> Any:
        """Return it as another library's table.

        Args:
            kind: `pandas`, `polars`, or `arrow` for the `pyarrow.Table`.

        Raises:
            HarnessError: the library is not installed, or there is no such kind.
        """
        if kind == "arrow":
            return self.arrow
        if kind == "pandas":
            return self.arrow.to_pandas()
        if kind == "polars":
            try:
                import polars
            except ModuleNotFoundError:
                raise HarnessError("polars is not installed: pip install polars") from None
            return polars.from_arrow(self.arrow)
        raise HarnessError(f"to({kind!r}): no such kind of table; use pandas, polars or arrow")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.arrow.column_names)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as dicts."""
        return list(self.arrow.to_pylist())

    def __getitem__(self, column: str) -> list[Any]:
        """Return a column as a list."""
        return list(self.arrow.column(column).to_pylist())

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the data by Arrow's PyCapsule interface."""
        return self.arrow.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<Frame: {len(self):,} rows of {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        """Return its first rows as HTML."""
        shown = self.arrow.slice(0, SHOWN).to_pylist()
        rows = [[_cell(row[name]) for name in self.columns] for row in shown]
        more = len(self) - len(shown)
        note = f"{len(self):,} rows" + (f", the first {SHOWN} shown" if more > 0 else "")
        return table_html(self.columns, rows, note)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def frame_of(rows: Sequence[dict[str, Any]]) -> Frame:
    """Return a frame of dicts that have the same keys."""
    import pyarrow as pa

    return Frame(pa.Table.from_pylist(list(rows)))
