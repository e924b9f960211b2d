"""HTML for cells of a notebook: tables, notes, pages. All text is escaped: a model may have written it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path

from harness.terminal import visible

PAGE_HEIGHT = 760


@cache
def style(name: str) -> str:
    """Return a style sheet of `templates/` as an element."""
    path = Path(__file__).parent / "templates" / f"{name}.css"
    return f"<style>{path.read_text(encoding='utf-8')}</style>"


def shown(text: str) -> str:
    """Return a text as HTML, hidden characters as marks."""
    return escape(visible(text, "\n\t"))


def cell(*parts: str) -> str:
    """Return one cell's HTML of parts that are HTML."""
    return f'{style("cell")}<div class="harness-cell">{"".join(parts)}</div>'


def note(text: str, kind: str = "note") -> str:
    """Return a line of text."""
    return f'<p class="{kind}">{shown(text)}</p>'


def rows_html(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Sequence[bool] = (),
    bold: Iterable[tuple[int, int]] = (),
) -> str:
    """Return a table, its texts escaped.

    Args:
        header: name of each column.
        rows: texts.
        numbers: by column, whether it is set to the right.
        bold: (row, column) of cells that stand out.
    """
    strong = set(bold)
    kinds = [' class="number"' if one else "" for one in (*numbers, *([False] * len(header)))]
    head = "".join(f"<th{kind}>{shown(name)}</th>" for name, kind in zip(header, kinds, strict=False))
    body = []
    for y, row in enumerate(rows):
        cells = []
        for x, (text, kind) in enumerate(zip(row, kinds, strict=False)):
            inner = f"<b>{shown(text)}</b>" if (y, x) in strong else shown(text)
            cells.append(f"<td{kind}>{inner}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def table_html(header: Sequence[str], rows: Iterable[Sequence[str]], below: str = "") -> str:
    """Return a cell with a table, and a note below it."""
    return cell(rows_html(header, rows), note(below) if below else "")


class Page:
    """A page of HTML that a notebook shows in the cell, apart from the notebook's own page.

    Attributes:
        html: the whole page.
    """

    def __init__(self, html: str, height: int = PAGE_HEIGHT) -> None:
        self.html = html
        self._height = height

    def __repr__(self) -> str:
        return f"<Page: {len(self.html) / 1e6:.1f} MB of HTML; a notebook shows it>"

    def _repr_html_(self) -> str:
        """Return a frame with the page, whose scripts reach nothing outside of it."""
        return (
            f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts allow-downloads allow-modals" '
            f'style="width: 100%; height: {self._height}px; border: 1px solid #8884; border-radius: 6px;" '
            'loading="lazy" title="comparison"></iframe>'
        )
