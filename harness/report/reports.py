"""The files of a sweep that people open: summary.csv, compare.html and a page of tokens a point."""

from __future__ import annotations

import json
import re
from pathlib import Path

from harness.report.compare_html import compare_html
from harness.report.points import Reported, reported
from harness.report.precision import precision_report
from harness.report.summary import summary_csv
from harness.report.table import sweep_table
from harness.report.tokens_html import tokens_html
from harness.results.files import outputs_folder, write_text
from harness.results.store import StoredPoint
from harness.results.sweeps import Sweep, SweepPoint, find_sweep

BUDGET_MB = 8.0


def write(name: str | None) -> int:
    """`harness report [SWEEP]`: write a sweep's reports again from the store and print its table.

    Args:
        name: the sweep's folder or id; the last one when None.

    Returns:
        The exit status: 0.

    Raises:
        ConfigError: there is no such sweep.
    """
    sweep = find_sweep(outputs_folder(), name)
    points = _write(sweep, anew=True)
    print_sweep(sweep, points)
    return 0


def write_sweep_reports(sweep: Sweep) -> None:
    """Write summary.csv and compare.html of the sweep, and the tokens pages that are not there yet."""
    _write(sweep, anew=False)


def print_sweep(sweep: Sweep, points: list[Reported] | None = None) -> None:
    """The sweep's table and where its files lie, on the terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    points = reported(sweep) if points is None else points
    console.print(sweep_table(points, console.width))
    console.print()
    for path in (sweep.folder / "compare.html", sweep.folder / "summary.csv"):
        if path.is_file():
            console.print(_shown(path), soft_wrap=True, markup=False)


def tokens_page(sweep: Sweep, point: SweepPoint, stored: StoredPoint, anew: bool = False) -> Path:
    """The point's tokens.html in the sweep's folder; written when it is not there or older than the point."""
    path = sweep.folder / "tokens" / f"{_slug(point.label)}-{point.point_id[:8]}.html"
    source = stored.path("metrics.json" if stored.has("metrics.json") else "generations.parquet")
    if anew or not path.is_file() or path.stat().st_mtime <= source.stat().st_mtime:
        write_text(path, tokens_html(stored, point.label, BUDGET_MB))
    return path


def _write(sweep: Sweep, anew: bool) -> list[Reported]:
    points = reported(sweep)
    pages = {
        p.point.label: tokens_page(sweep, p.point, p.stored, anew).relative_to(sweep.folder).as_posix()
        for p in points
        if p.stored
    }
    write_text(sweep.folder / "summary.csv", summary_csv(points))
    if precision := precision_report(points):
        write_text(sweep.folder / "drift.json", json.dumps(precision.as_json(), indent=1) + "\n")
    write_text(sweep.folder / "compare.html", compare_html(sweep, points, pages, BUDGET_MB))
    return points


def _slug(label: str) -> str:
    """A file name of a label: letters, digits, dots, signs and underscores, not too long."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", label).strip("-.")[:100] or "point"


def _shown(path: Path) -> str:
    """The path as seen from here, when that is shorter."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
