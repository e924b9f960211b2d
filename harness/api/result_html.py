"""A sweep's results in a cell of a notebook: its answer, its table, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.expectations import CheckedExpectation
from harness.api.notebook_html import note, rows_html, shown
from harness.report.point_names import short_names
from harness.report.terminal_table import BEST, notes_below, result_columns
from harness.report.write import Written

MOST_ROWS = 200
"""Points that a cell shows; `summary()` has all."""


def answer_html(written: Written) -> str:
    """Return the answer, a sentence a line, its evidence behind it."""
    answer = written.comparison.answer
    if answer is None:
        return ""
    points = [p.point for p in written.points]
    names = dict(zip((p.label for p in points), short_names(points), strict=True))
    lines = []
    for sentence in answer.sentences:
        evidence = f' <span class="note">({shown(sentence.evidence)})</span>' if sentence.evidence else ""
        lines.append(f"<dt>{shown(sentence.title)}</dt><dd>{shown(sentence.text(names))}{evidence}</dd>")
    return f"<dl>{''.join(lines)}</dl>"


def points_html(written: Written) -> str:
    """Return the table of the terminal: a row a point, the best values bold, notes below."""
    points = written.points
    names = short_names([p.point for p in points])
    columns = result_columns(points, written.comparison)
    header = ["run", *(name.replace("\n", ", ") for name, _ in columns)]
    rows, bold = [], []
    for y, name in enumerate(names[:MOST_ROWS]):
        rows.append([name, *(cells[y].plain for _, cells in columns)])
        for x, (_, cells) in enumerate(columns):
            if any(span.style == BEST for span in cells[y].spans):
                bold.append((y, x + 1))
    below = notes_below(points, written.comparison, columns)
    if len(names) > MOST_ROWS:
        below.append(f"{len(names):,} runs, the first {MOST_ROWS} shown; .summary() has all")
    numbers = [False, *(True for _ in columns)]
    return rows_html(header, rows, numbers, bold) + "".join(note(line) for line in below)


def failures_html(written: Written, misses: Sequence[CheckedExpectation]) -> str:
    """Return a line for each point that failed, and for each expectation that was missed."""
    failed = [p.point for p in written.points if p.point.status == "failed"]
    lines = [f"✗ {point.label}: {point.error or 'failed'}" for point in failed[:MOST_ROWS]]
    lines += [f"✗ {one.label}: {one.line}" for one in misses[:MOST_ROWS]]
    return "".join(note(line, "bad") for line in lines)
