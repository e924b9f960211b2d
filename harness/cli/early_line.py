"""A line on the terminal while the first imports take their seconds; the first thing printed replaces it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

ERASE = "\r\x1b[2K"


@contextmanager
def early_line(text: str) -> Iterator[None]:
    """Show a line until something is written to standard output or standard error, or the block ends.

    Nothing is shown where standard output is not a terminal.
    """
    before = sys.stdout, sys.stderr
    if not before[0].isatty():
        yield
        return
    line = _Line(before[0], text)
    sys.stdout, sys.stderr = (_Stream(stream, line) for stream in before)  # type: ignore[assignment]
    try:
        yield
    finally:
        line.erase()
        sys.stdout, sys.stderr = before


class _Line:
    """The line, until it is erased."""

    def __init__(self, terminal: TextIO, text: str) -> None:
        self._terminal = terminal
        self._shown = bool(text)
        terminal.write(text)
        terminal.flush()

    def erase(self) -> None:
        if self._shown:
            self._shown = False
            with suppress(OSError, ValueError):
                self._terminal.write(ERASE)
                self._terminal.flush()


class _Stream:
    """A stream whose first text erases the line."""

    def __init__(self, behind: TextIO, line: _Line) -> None:
        self._behind = behind
        self._line = line

    def write(self, text: str) -> int:
        if text:
            self._line.erase()
        return self._behind.write(text)

    def writelines(self, lines: Any) -> None:
        self._line.erase()
        self._behind.writelines(lines)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)
