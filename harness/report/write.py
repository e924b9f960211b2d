"""The reports of a sweep: summary.csv, comparison.csv, compare.html, and a tokens page for each point."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from rich.text import Text

from harness.analysis.compare_points import compare
from harness.analysis.comparison import Comparison
from harness.analysis.drift_costs import precision_report
from harness.analysis.expectations import CheckedExpectation, check_expectations, check_summary, missed
from harness.analysis.goal import goal_of
from harness.analysis.point_results import PointResult, point_results
from harness.analysis.selection.selected_points import Selection, selection_of
from harness.analysis.selection.selection_curves import selection_curves, selection_json
from harness.report.answer_text import answer_text
from harness.report.console import SafeConsole
from harness.report.csv_files import comparison_csv, csv_text, summary_csv
from harness.report.llm_perf_csv import COLUMNS, llm_perf_rows
from harness.report.page.compare_page import compare_html
from harness.report.page.tokens_page import tokens_html
from harness.report.point_names import short_names
from harness.report.speculation_table import speculation_table
from harness.report.terminal_table import sweep_table
from harness.store.feedback import known_feedback
from harness.store.files import outputs_folder, write_text
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Status, Sweep, SweepPoint, find_sweep
from harness.store.votes import known_votes
from harness.terminal import visible

TOKENS_BUDGET_MB = 8.0
"""Of a tokens page."""

BUDGET_MB = 20.0
"""Of compare.html, for sweeps saved before there was `compare.budget_mb`."""

SELECTION = "selection.json"
"""In a sweep's folder: which samples `compare.select` chose, and the curves over their number."""

MOST_MISSES = 20
"""Missed expectations that the terminal lists; expectations.json has all."""


@dataclass(frozen=True)
class Written:
    """What a sweep's reports show: its points, their comparison, and the expectations checked on them."""

    points: list[PointResult]
    comparison: Comparison
    checked: tuple[CheckedExpectation, ...] = ()


def write(name: str | None, *, llm_perf: bool = False) -> int:
    """`harness report [SWEEP]`: write a sweep's reports again from the store and print its table.

    Args:
        name: the sweep's folder or id; the last one when None.
        llm_perf: also write llm_perf.csv, what its models cost in the leaderboard's columns.

    Returns:
        The exit status: 0, or 1 when an expectation is missed or a point is damaged.

    Raises:
        ConfigError: there is no such sweep, or no cost of a model in it.
    """
    sweep = find_sweep(outputs_folder(), name)
    costs = llm_perf_rows(read_results(sweep).points, sweep.folder.name) if llm_perf else []
    written = write_sweep_reports(sweep, anew=True)
    print_sweep(sweep, written)
    if costs:
        path = sweep.folder / "llm_perf.csv"
        write_text(path, csv_text(COLUMNS, costs))
        _print_link(SafeConsole(), path)
    damaged = [found.point for found in written.points if not found.selected_from] != list(sweep.points)
    return 1 if damaged or missed(written.checked) else 0


def write_sweep_reports(sweep: Sweep, anew: bool = False) -> Written:
    """Write the sweep's reports; its tokens pages where they are missing or outdated, or all `anew`."""
    written, selection = _read(sweep)
    points, comparison, checked = written.points, written.comparison, written.checked
    pages = {
        p.point.label: tokens_page(sweep, p.point, p.stored, anew).relative_to(sweep.folder).as_posix()
        for p in points
        if p.stored
    }
    write_text(sweep.folder / "summary.csv", summary_csv(points))
    write_text(sweep.folder / "comparison.csv", comparison_csv(comparison))
    if drift := precision_report(points):
        write_text(sweep.folder / "drift.json", json.dumps(drift.as_json(), indent=1) + "\n")
    budget = float(sweep.compare.get("budget_mb") or BUDGET_MB)
    feedback, votes = known_feedback(sweep.folder), known_votes(sweep.folder)
    html = compare_html(sweep, points, pages, budget, comparison, checked, feedback, votes)
    write_text(sweep.folder / "compare.html", html)
    _write_or_remove(sweep.folder / SELECTION, selection_json(sweep, selection, comparison.selection))
    _write_or_remove(sweep.folder / "expectations.json", [asdict(expectation) for expectation in checked])
    return written


def read_results(sweep: Sweep) -> Written:
    """Return what the sweep's reports show, read from the store; nothing is written."""
    return _read(sweep)[0]


def _read(sweep: Sweep) -> tuple[Written, Selection]:
    checked = check_expectations(sweep)
    selection = selection_of(sweep, point_results(sweep))
    points = list(selection.points)
    comparison = compare(sweep, points)
    goal, _ = goal_of(sweep, comparison.metrics)
    curves = selection_curves(selection, comparison.metrics, goal.key if goal else None)
    comparison = replace(comparison, notes=(*comparison.notes, *selection.notes), selection=curves)
    return Written(points, comparison, checked), selection


def _write_or_remove(path: Path, values: Any) -> None:
    """Write a JSON file; remove it where there is nothing to write."""
    if values:
        write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    else:
        path.unlink(missing_ok=True)


def print_sweep(sweep: Sweep, written: Written, seconds: float | None = None) -> None:
    """Print the sweep's table, its answer, its expectations and the paths of its files.

    `seconds` is how long it took; None when it was not run now.
    """
    console = SafeConsole()
    _print_results(console, written)
    if seconds is not None:
        console.print(Text(visible(_took(sweep, seconds)), "dim"), soft_wrap=True)
    for path in (sweep.folder / "compare.html", sweep.folder / "summary.csv"):
        if path.is_file():
            _print_link(console, path)


def _print_link(console: SafeConsole, path: Path) -> None:
    console.print(console.link(_relative(path), path.absolute().as_uri()), soft_wrap=True)


def results_text(written: Written, width: int = 120) -> str:
    """Return the table, the answer and the expectations as plain text of some columns."""
    stream = StringIO()
    _print_results(SafeConsole(into=stream, width=width), written)
    return stream.getvalue().rstrip()


def _print_results(console: SafeConsole, written: Written) -> None:
    styled = console.is_terminal and console.color_system is not None
    console.print(sweep_table(written.points, console.width, written.comparison, styled=styled))
    console.print()
    if speculation := speculation_table(written.points, console.width):
        console.print(speculation)
        console.print()
    if written.comparison.answer:
        points = [p.point for p in written.points]
        names = dict(zip((p.label for p in points), short_names(points), strict=True))
        console.print(answer_text(written.comparison.answer.sentences, names))
        console.print()
    for line in _expectation_lines(written.checked):
        console.print(line, soft_wrap=True)


def _took(sweep: Sweep, seconds: float) -> str:
    """Return in one line how long a sweep took, and what became of its points."""
    counts = Counter(point.status for point in sweep.points)
    named: dict[Status, str] = {"done": "generated", "reused": "from the store", "failed": "failed"}
    shown = ", ".join(f"{counts[status]} {name}" for status, name in named.items() if counts[status])
    minutes, rest = divmod(round(seconds), 60)
    took = f"{minutes} min {rest} s" if minutes else f"{seconds:.{int(seconds < 10)}f} s"
    points = f"{len(sweep.points)} point{'' if len(sweep.points) == 1 else 's'}"
    return f"{sweep.title}: {points} in {took} ({shown})"


def tokens_page(sweep: Sweep, point: SweepPoint, stored: StoredPoint, anew: bool = False) -> Path:
    """Return the path of a point's tokens page in the sweep's folder; write it where missing or outdated.

    `point` is the point's record in the sweep; with `anew` the page is written in any case.
    """
    path = sweep.folder / "tokens" / f"{_slug(point.label)}-{point.point_id[:8]}.html"
    source = stored.path("metrics.json" if stored.has("metrics.json") else "generations.parquet")
    if anew or not path.is_file() or path.stat().st_mtime <= source.stat().st_mtime:
        write_text(path, tokens_html(stored, point.label, TOKENS_BUDGET_MB, point))
    return path


def _expectation_lines(checked: Sequence[CheckedExpectation]) -> Iterator[Text]:
    """Yield how many expectations passed, and a line for each that was missed."""
    if not checked:
        return
    misses = missed(checked)
    yield Text(f"expectations: {check_summary(checked)}", style="red" if misses else "green")
    for miss in misses[:MOST_MISSES]:
        yield Text.assemble(("✗ ", "bold red"), visible(f"{miss.label}: {miss.line}"))
    if len(misses) > MOST_MISSES:
        yield Text(f"  and {len(misses) - MOST_MISSES} more in expectations.json")
    yield Text()


def _slug(label: str) -> str:
    """Return a file name for a label: letters, digits, dots, signs and underscores, not too long."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", label).strip("-.")[:100] or "point"


def _relative(path: Path) -> str:
    """Return the path relative to the working folder where it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
