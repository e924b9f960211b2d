"""The table of a sweep for the terminal: a row per point, readable at 80 columns as at 160."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.analysis.comparison import Comparison, Difference
from harness.analysis.finish_reasons import FINISHES
from harness.analysis.point_results import CHOICES, PointResult
from harness.analysis.statistics.verdicts import NO_DIFFERENCE
from harness.report.key_metrics import best_points, key_metrics
from harness.report.point_names import short_names
from harness.terminal import visible

STATUS_SIGNS = {"done": ("✓", "green"), "reused": ("↺", "cyan"), "failed": ("✗", "bold red")}
MARKS = {
    "better": ("▲", "green", "better"),
    "worse": ("▼", "red", "worse"),
    "higher": ("↑", "", "higher"),
    "lower": ("↓", "", "lower"),
    "noise": ("≈", "dim", "within run-to-run noise"),
    NO_DIFFERENCE: ("·", "dim", "no significant difference"),
}
"""The mark behind a number, by how it differs from the baseline: sign, style and meaning."""

OPTIONAL = (
    "text/output_tokens",
    "finish",
    "text/distinct_2",
    "throughput/tokens_per_s",
    "text/repeated_4",
    "latency/ttft_p50_ms",
)
"""What makes room for long names, the first one first: `finish` is shortened, metrics are left out."""

Columns = list[tuple[str, list[Text]]]
"""The header of each column, and its cell of each point."""


BEST = "bold"
"""The style of a column's best values."""


def sweep_table(
    points: Sequence[PointResult], width: int, comparison: Comparison | None = None, *, styled: bool = False
) -> Group:
    """Return the table: what varies, the results, and below it what all points share and the errors.

    The metric that the sweep is about comes first, then those of references; the best values are bold.

    Args:
        points: of one sweep, in its order.
        width: columns of the terminal; in a narrow one, the least important columns are left out before a
            name is wrapped.
        comparison: of these points; marks how each number differs from the baseline's.
        styled: whether styles are seen, so that the legend explains them.
    """
    names = short_names([p.point for p in points])
    layouts = [result_columns(points, comparison, OPTIONAL[:count]) for count in range(len(OPTIONAL) + 1)]
    widest = max(len(word) for name in ["run", *names] for word in _words(name))

    def cost(columns: Columns) -> tuple[int, int]:
        room = _room(columns, width)
        return max(0, widest - room), sum(len(wrapped(name, room)) for name in names)

    columns = min(layouts, key=cost)  # the first of equals, which has the most columns
    room = _room(columns, width)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("  run", no_wrap=True)
    for header, cells in columns:
        # Justified here: rich would strip the blank of a number without a mark.
        column_width = _width((header, cells))
        table.add_column("\n".join(line.rjust(column_width) for line in header.split("\n")), no_wrap=True)
        for cell in cells:
            cell.pad_left(column_width - len(cell))
    failed = [p.point for p in points if p.point.status == "failed"]
    for row, (p, name) in enumerate(zip(points, names, strict=True)):
        sign = STATUS_SIGNS.get(p.point.status, ("·", "dim"))
        label = ("\n  ".join(wrapped(name, room)), "red" if p.point.status == "failed" else "")
        table.add_row(Text.assemble(sign, " ", label), *(cells[row] for _, cells in columns))
    notes = notes_below(points, comparison, columns)
    below = [Text(line, "dim") for line in notes]
    if styled and any(span.style == BEST for _, cells in columns for cell in cells for span in cell.spans):
        tested = ", and what is not significantly worse" if comparison and comparison.best else ""
        below.append(Text.assemble(("bold", BEST), (f": best{tested}", "dim")))
    for point in failed:
        label = (visible(point.label), "red")
        below.append(Text.assemble(("✗ ", "bold red"), label, ": ", visible(point.error or "failed")))
    return Group(table, *([Text(), *below] if below else []))


def result_columns(
    points: Sequence[PointResult], comparison: Comparison | None, without: Sequence[str] = ()
) -> Columns:
    """Return the columns beside the names; those in `without` left out or shortened."""
    goal = comparison.answer.goal if comparison and comparison.answer else None
    shown = [m for m in key_metrics(points, goal) if m.key == goal or m.key not in without]
    with_units = any(metric.unit for metric in shown)
    columns = []
    for metric in shown:
        marks = _marks([_difference(comparison, p.point.label, metric.key) for p in points])
        best = best_points(metric, points, comparison)
        cells = [
            Text.assemble(
                (metric.format(p.metrics.get(metric.key)), BEST if p.point.label in best else ""), mark
            )
            for p, mark in zip(points, marks, strict=True)
        ]
        columns.append((metric.name + (f"\n{metric.unit}" if with_units else ""), cells))
    return [*columns, _finishes(points, in_short="finish" in without)]


def _difference(comparison: Comparison | None, label: str, key: str) -> Difference | None:
    cell = comparison.cells.get(label, {}).get(key) if comparison else None
    return cell.difference if cell else None


def _marks(differences: Sequence[Difference | None]) -> list[tuple[str, str]]:
    """Return the sign and style behind each number; a blank keeps those without a difference aligned."""
    blank = " " if any(differences) else ""
    return [MARKS[_meaning(d)][:2] if d else (blank, "") for d in differences]


def _meaning(difference: Difference) -> str:
    """Return the entry of MARKS for a difference."""
    if difference.word == NO_DIFFERENCE:
        return difference.word
    return "noise" if difference.within_noise else difference.verdict or difference.word


def _legend(comparison: Comparison | None, columns: Columns) -> list[str]:
    """Return the meaning of the marks that are shown, and the baseline."""
    ends = {cell.plain[-1:] for _, cells in columns for cell in cells}
    shown = [f"{sign} {meaning}" for sign, _, meaning in MARKS.values() if sign in ends]
    if comparison is None or not shown:
        return []
    few = "; fewer than 20 prompts: confidence intervals are approximate" if comparison.approximate else ""
    return [visible(f"vs. {comparison.baseline}: {', '.join(shown)}{few}")]


def _finishes(points: Sequence[PointResult], *, in_short: bool) -> tuple[str, list[Text]]:
    """Return the column of finish reasons, `6 eos 2 length`; in short `6/2` under `eos/len`."""
    found = {reason for p in points for reason in p.finishes}
    reasons = [reason for reason in sorted(FINISHES, key=str) if reason in found]
    header, cells = "finish", []
    if in_short and reasons:
        header = "/".join(FINISHES[r][1] for r in reasons)
    for p in points:
        if in_short:
            counts = "/".join(str(p.finishes.get(r, 0)) for r in reasons)
        else:
            counts = " ".join(f"{p.finishes[r]} {FINISHES[r][0]}" for r in reasons if r in p.finishes)
        status = Text(p.point.status, "red" if p.point.status == "failed" else "")
        cells.append(Text(counts) if p.finishes else status)
    return header, cells


def _room(columns: Columns, width: int) -> int:
    """Return the width left for names: each column takes its widest line and a gap of two, the sign two."""
    return width - 2 - sum(2 + _width(column) for column in columns)


def _width(column: tuple[str, list[Text]]) -> int:
    header, cells = column
    return max([*map(len, header.split("\n")), *map(len, cells)])


def wrapped(name: str, room: int) -> list[str]:
    """Return the lines of a name, broken after `/` or at a space; within a word only where it is too wide."""
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


def notes_below(points: Sequence[PointResult], comparison: Comparison | None, columns: Columns) -> list[str]:
    """Return what the runs have in common, and what the marks mean, a line each."""
    return [*_shared(points), *_selected(points), *_legend(comparison, columns)]


def _selected(points: Sequence[PointResult]) -> list[str]:
    """Return one line that says what rows of chosen samples are; none where there are none."""
    counts = sorted({p.selected_from for p in points} - {0})
    some = " to ".join(str(count) for count in dict.fromkeys(counts[:1] + counts[-1:]))
    return [f"select: the sample chosen of {some} per prompt, at the cost of all of them"] if counts else []


def _shared(points: Sequence[PointResult]) -> list[str]:
    """Return one line that names what all points have in common; none when that is nothing."""
    values = {name: {getattr(p.point, name) for p in points} for name in CHOICES}
    same = [
        f"{name} {value}" for name, found in values.items() for value in found if value and len(found) == 1
    ]
    return [visible("all: " + ", ".join(same))] if same and len(points) > 1 else []
