"""The table of a sweep for the terminal: a row per point, readable at 80 columns as at 160."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.analysis.comparison import Comparison, Difference
from harness.analysis.metric_catalog import HEADLINES
from harness.analysis.point_results import CHOICES, PointResult
from harness.analysis.statistics.multiple_comparisons import NO_DIFFERENCE
from harness.report.point_names import short_names
from harness.report.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

STATUS_SIGNS = {"done": ("✓", "green"), "reused": ("↺", "cyan"), "failed": ("✗", "bold red")}
FINISHES = {
    "eos": ("eos", "eos"),
    "length": ("length", "len"),
    "stop_string": ("stop", "stop"),
    None: ("unknown", "?"),
}
"""Finish reasons, and how they are abbreviated in a narrow table."""

MARKS = {
    "better": ("▲", "green", "better"),
    "worse": ("▼", "red", "worse"),
    "higher": ("↑", "", "higher"),
    "lower": ("↓", "", "lower"),
    "noise": ("≈", "dim", "within run-to-run noise"),
    NO_DIFFERENCE: ("·", "dim", "no significant difference"),
}
"""The mark behind a number, by how it differs from the baseline: sign, style and meaning."""

OPTIONAL = ("text/output_tokens", "finish", "text/distinct_2", "throughput/tokens_per_s", "text/repeated_4")
"""What makes room for long names, the first one first: `finish` is shortened, metrics are left out."""

Columns = list[tuple[str, list[str]]]
"""The header of each column, and its cell of each point."""


def sweep_table(
    points: Sequence[PointResult], width: int, comparison: Comparison | None = None
) -> RenderableType:
    """Return the table: what varies, the results, and below it what all points share and the errors.

    Args:
        points: of one sweep, in its order.
        width: columns of the terminal; in a narrow one, the least important columns are left out before a
            name is wrapped.
        comparison: of these points; marks how each number differs from the baseline's.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = short_names([p.point for p in points])
    layouts = [_columns(points, OPTIONAL[:count], comparison) for count in range(len(OPTIONAL) + 1)]
    widest = max(len(word) for name in ["run", *names] for word in _words(name))

    def cost(columns: Columns) -> tuple[int, int]:
        room = _room(columns, width)
        return max(0, widest - room), sum(len(wrapped(name, room)) for name in names)

    columns = min(layouts, key=cost)  # the first of equals, which has the most columns
    room = _room(columns, width)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("  run", no_wrap=True)
    widths = [_width(column) for column in columns]
    for (header, _), column_width in zip(columns, widths, strict=True):
        # Justified here: rich would strip the blank of a number without a mark.
        lines = [line.rjust(column_width) for line in header.split("\n")]
        table.add_column(Text("\n".join(lines)), no_wrap=True)
    for row, (p, name) in enumerate(zip(points, names, strict=True)):
        sign, style = STATUS_SIGNS.get(p.point.status, ("·", "dim"))
        red = "red" if p.point.status == "failed" else ""
        table.add_row(
            Text.assemble((sign, style), " ", ("\n  ".join(wrapped(name, room)), red)),
            *(
                _styled(cells[row].rjust(column_width), red if cells[row] == p.point.status else "")
                for (_, cells), column_width in zip(columns, widths, strict=True)
            ),
        )
    below = [Text(line, "dim") for line in (*_shared(points), *_legend(comparison, columns))]
    below += [
        Text.assemble(
            ("✗ ", "bold red"), (visible(p.point.label), "red"), ": ", visible(p.point.error or "failed")
        )
        for p in points
        if p.point.status == "failed"
    ]
    return Group(table, *([Text(), *below] if below else []))


def _columns(
    points: Sequence[PointResult], without: Sequence[str], comparison: Comparison | None = None
) -> Columns:
    """Return the columns beside the names; those in `without` left out or shortened."""
    known = {key for p in points for key in p.metrics}
    shown = [metric for metric in HEADLINES if metric.key in known and metric.key not in without]
    with_units = any(metric.unit for metric in shown)
    columns = [
        (
            metric.name + (f"\n{metric.unit}" if with_units else ""),
            _marked(
                [metric.format(p.metrics.get(metric.key)) for p in points],
                [_difference(comparison, p.point.label, metric.key) for p in points],
            ),
        )
        for metric in shown
    ]
    found = {reason for p in points for reason in p.finishes}
    reasons = [reason for reason in sorted(FINISHES, key=str) if reason in found]
    finish = _finishes_in_short if "finish" in without else _finishes
    return [*columns, finish(points, reasons)]


def _difference(comparison: Comparison | None, label: str, key: str) -> Difference | None:
    cell = comparison.cells.get(label, {}).get(key) if comparison else None
    return cell.difference if cell else None


def _marked(cells: list[str], differences: list[Difference | None]) -> list[str]:
    """Return numbers with the mark of their difference behind them, those without one kept aligned."""
    if not any(differences):
        return cells
    signs = [MARKS[_meaning(d)][0] if d else " " for d in differences]
    return [cell + sign for cell, sign in zip(cells, signs, strict=True)]


def _meaning(difference: Difference) -> str:
    """Return the entry of MARKS for a difference."""
    if difference.word == NO_DIFFERENCE:
        return difference.word
    return "noise" if difference.within_noise else difference.verdict or difference.word


def _styled(cell: str, style: str) -> Text:
    """Return a cell in its style, the mark behind it in its own."""
    from rich.text import Text

    for sign, colour, _ in MARKS.values():
        if cell.endswith(sign):
            return Text.assemble((cell[:-1], style), (sign, colour))
    return Text(cell, style)


def _legend(comparison: Comparison | None, columns: Columns) -> list[str]:
    """Return the meaning of the marks that are shown, and the baseline."""
    ends = {cell[-1:] for _, cells in columns for cell in cells}
    shown = [f"{sign} {meaning}" for sign, _, meaning in MARKS.values() if sign in ends]
    if comparison is None or not shown:
        return []
    few = "; fewer than 20 prompts: confidence intervals are approximate" if comparison.approximate else ""
    return [visible(f"vs. {comparison.baseline}: {', '.join(shown)}{few}")]


def _finishes(points: Sequence[PointResult], reasons: Sequence[str | None]) -> tuple[str, list[str]]:
    """Return the column of finish reasons: `6 eos 2 length`."""
    cells = [
        " ".join(f"{p.finishes[r]} {FINISHES[r][0]}" for r in reasons if r in p.finishes) for p in points
    ]
    return "finish", [cell or p.point.status for p, cell in zip(points, cells, strict=True)]


def _finishes_in_short(points: Sequence[PointResult], reasons: Sequence[str | None]) -> tuple[str, list[str]]:
    """Return the same as `6/2` under `eos/len`."""
    cells = ["/".join(str(p.finishes.get(r, 0)) for r in reasons) if p.finishes else "" for p in points]
    header = "/".join(FINISHES[r][1] for r in reasons) or "finish"
    return header, [cell or p.point.status for p, cell in zip(points, cells, strict=True)]


def _room(columns: Columns, width: int) -> int:
    """Return the width left for names: each column takes its widest line and a gap of two, the sign two."""
    return width - 2 - sum(2 + _width(column) for column in columns)


def _width(column: tuple[str, list[str]]) -> int:
    header, cells = column
    return max(map(len, [*header.split("\n"), *cells]))


def wrapped(name: str, room: int) -> list[str]:
    """Return the lines of a name, broken after `/` or at a space; within a word only where it is too wide."""
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for word in _words(name):
        if cell_len((lines[-1] + word).rstrip()) <= room:
            lines[-1] += word
        else:
            lines += chop_cells(word, max(8, room))
    return [line.rstrip() for line in lines if line]


def _words(name: str) -> list[str]:
    """Return what a name is not broken within, each with the `/` or the space that ends it."""
    return re.split(r"(?<=[/ ])", name)


def _shared(points: Sequence[PointResult]) -> list[str]:
    """Return one line that names what all points have in common; none when that is nothing."""
    same = []
    for name in CHOICES:
        values = {getattr(p.point, name) for p in points}
        if len(values) == 1 and (value := values.pop()):
            same.append(f"{name} {value}")
    return [visible("all: " + ", ".join(same))] if same and len(points) > 1 else []
