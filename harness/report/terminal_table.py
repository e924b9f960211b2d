"""The table of a sweep for the terminal: a row a point, readable at 80 columns as at 160."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.analysis.comparison import Comparison, Difference
from harness.analysis.metric_catalog import HEADLINES
from harness.analysis.point_results import CHOICES, PointResult
from harness.config.labels import short, value_text
from harness.report.page.shell import visible
from harness.store.sweeps import SweepPoint

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

SIGNS = {"done": ("✓", "green"), "reused": ("↺", "cyan"), "failed": ("✗", "bold red")}
ENDS = {"eos": "eos", "length": "cut", "stop_string": "stop", "time": "time"}

MARKS = {
    "better": ("▲", "green", "better"),
    "worse": ("▼", "red", "worse"),
    "higher": ("↑", "", "higher"),
    "lower": ("↓", "", "lower"),
    "noise": ("≈", "dim", "within the noise of running it again"),
    "no significant difference": ("·", "dim", "no significant difference"),
}
"""Behind a number: how it differs from the baseline. Sign, style and what it stands for."""

YIELDING = ("text/output_tokens", "ended", "text/distinct_2", "throughput/tokens_per_s", "text/repeated_4")
"""What gives way to the names of the points, the first one first: left out, `ended` only shortened."""


def sweep_table(
    points: Sequence[PointResult], width: int, comparison: Comparison | None = None
) -> RenderableType:
    """What varied, what came of it, and below it what all points share and the errors.

    Args:
        points: of one sweep, in its order.
        width: columns of the terminal; in a narrow one, the least of the columns give way before a name is
            folded.
        comparison: of these points; marks how each number differs from the baseline's.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = short_names([p.point for p in points])
    layouts = [_columns(points, YIELDING[:count], comparison) for count in range(len(YIELDING) + 1)]
    widest = max(len(word) for name in ["point", *names] for word in _words(name))

    def cost(columns: Columns) -> tuple[int, int]:
        room = _room(columns, width)
        return max(0, widest - room), sum(len(folded(name, room)) for name in names)

    columns = min(layouts, key=cost)  # the first of equals, which has the most columns
    room = _room(columns, width)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("  point", no_wrap=True)
    widths = [_width(column) for column in columns]
    for (header, _), wide in zip(columns, widths, strict=True):
        # Set right by hand: rich would strip the blank that stands where a number has no mark.
        table.add_column(Text("\n".join(line.rjust(wide) for line in header.split("\n"))), no_wrap=True)
    for place, (p, name) in enumerate(zip(points, names, strict=True)):
        sign, style = SIGNS.get(p.point.status, ("·", "dim"))
        lines = "\n  ".join(folded(name, room))
        told = "red" if p.point.status == "failed" else ""
        table.add_row(
            Text.assemble((sign, style), " ", (lines, told)),
            *(
                _styled(cells[place].rjust(wide), told if cells[place] == p.point.status else "")
                for (_, cells), wide in zip(columns, widths, strict=True)
            ),
        )
    below = [Text(line, "dim") for line in shared(points)]
    below += [Text(line, "dim") for line in _legend(comparison, columns)]
    below += [
        Text.assemble(
            ("✗ ", "bold red"), (visible(p.point.label), "red"), ": ", visible(p.point.error or "failed")
        )
        for p in points
        if p.point.status == "failed"
    ]
    return Group(table, *([Text(), *below] if below else []))


Columns = list[tuple[str, list[str]]]
"""The header of each column, and its cell of each point."""


def _columns(
    points: Sequence[PointResult], without: Sequence[str], comparison: Comparison | None = None
) -> Columns:
    """The columns beside the names; those in `without` left out or shortened."""
    known = {key for p in points for key in p.metrics}
    kept = [metric for metric in HEADLINES if metric.key in known and metric.key not in without]
    with_units = any(metric.unit for metric in kept)
    found = [
        (
            metric.name + (f"\n{metric.unit}" if with_units else ""),
            _marked(
                [metric.format(p.metrics.get(metric.key)) for p in points],
                [_difference(comparison, p.point.label, metric.key) for p in points],
            ),
        )
        for metric in kept
    ]
    reasons = sorted({reason for p in points for reason in p.finishes})
    return [*found, _ends_in_short(points, reasons) if "ended" in without else _ends(points, reasons)]


def _difference(comparison: Comparison | None, label: str, key: str) -> Difference | None:
    cell = comparison.cells.get(label, {}).get(key) if comparison else None
    return cell.difference if cell else None


def _marked(cells: list[str], differences: list[Difference | None]) -> list[str]:
    """Numbers with the sign of their difference behind them, those without one kept in line."""
    if not any(differences):
        return cells
    signs = [MARKS[_meaning(d)][0] if d else " " for d in differences]
    return [cell + sign for cell, sign in zip(cells, signs, strict=True)]


def _meaning(difference: Difference) -> str:
    """Which of MARKS tells a difference."""
    if difference.word == "no significant difference":
        return difference.word
    return "noise" if difference.within_noise else difference.verdict or difference.word


def _styled(cell: str, style: str) -> Text:
    """A cell in its style, the mark behind it in its own."""
    from rich.text import Text

    for sign, colour, _ in MARKS.values():
        if cell.endswith(sign):
            return Text.assemble((cell[:-1], style), (sign, colour))
    return Text(cell, style)


def _legend(comparison: Comparison | None, columns: Columns) -> list[str]:
    """What the marks that are shown stand for, and what the points are held against."""
    ends = {cell[-1:] for _, cells in columns for cell in cells}
    shown = [f"{sign} {meaning}" for sign, _, meaning in MARKS.values() if sign in ends]
    if comparison is None or not shown:
        return []
    rough = "; fewer than 20 prompts: rough" if comparison.approximate else ""
    return [visible(f"against {comparison.baseline}: {', '.join(shown)}{rough}")]


def _ends(points: Sequence[PointResult], reasons: Sequence[str]) -> tuple[str, list[str]]:
    """How the samples ended: `6 eos 2 cut`."""
    cells = [
        " ".join(f"{p.finishes[r]} {ENDS.get(r, r)}" for r in reasons if r in p.finishes) for p in points
    ]
    return "ended", [cell or p.point.status for p, cell in zip(points, cells, strict=True)]


def _ends_in_short(points: Sequence[PointResult], reasons: Sequence[str]) -> tuple[str, list[str]]:
    """The same as `6/2` under `eos/cut`."""
    cells = ["/".join(str(p.finishes.get(r, 0)) for r in reasons) if p.finishes else "" for p in points]
    header = "/".join(ENDS.get(r, r) for r in reasons) or "ended"
    return header, [cell or p.point.status for p, cell in zip(points, cells, strict=True)]


def _room(columns: Columns, width: int) -> int:
    """What is left for the names: each column takes its widest line and a gap of two, the sign two."""
    return width - 2 - sum(2 + _width(column) for column in columns)


def _width(column: tuple[str, list[str]]) -> int:
    header, cells = column
    return max(map(len, [*header.split("\n"), *cells]))


def folded(name: str, room: int) -> list[str]:
    """The lines of a name, cut after a `/` or at a space; within a word only where it alone is too wide."""
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for word in _words(name):
        if cell_len((lines[-1] + word).rstrip()) <= room:
            lines[-1] += word
        else:
            lines += chop_cells(word, max(8, room))
    return [line.rstrip() for line in lines if line]


def _words(name: str) -> list[str]:
    """What a name is not cut within; each with the `/` or the space that ends it."""
    return re.split(r"(?<=[/ ])", name)


def short_names(points: Sequence[SweepPoint]) -> list[str]:
    """What tells each point from the others: the choices and keys that vary; its label when nothing does."""
    varying = [name for name in CHOICES if len({getattr(p, name) for p in points}) > 1]
    names = []
    for p in points:
        choices = "/".join(getattr(p, name) for name in varying)
        keys = [f"{short(key)}={value_text(value)}" for key, value in p.varied.items() if key not in CHOICES]
        names.append(visible(" ".join([choices, *keys]).strip()))
    if len(set(names)) < len(points) or not all(names):
        return [visible(p.label) for p in points]
    return names


def shared(points: Sequence[PointResult]) -> list[str]:
    """One line that names what all points have in common; none when that is nothing."""
    same = []
    for name in CHOICES:
        values = {getattr(p.point, name) for p in points}
        if len(values) == 1 and (value := values.pop()):
            same.append(f"{name} {value}")
    return [visible("all: " + ", ".join(same))] if same and len(points) > 1 else []
