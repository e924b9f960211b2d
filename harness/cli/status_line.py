"""One line on standard error that says what is going on, until there is something to read instead."""

from __future__ import annotations

import time

from rich.style import Style

from harness.cli.early_line import ERASE
from harness.report.console import SafeConsole
from harness.terminal import visible

_SECONDS = 0.1  # between two changes of the line


class StatusLine:
    """A `harness.progress.Progress` in one line; nothing is shown where standard error is no terminal."""

    def __init__(self) -> None:
        self._console = SafeConsole(stderr=True)
        self._label, self._unit = "", ""
        self._done = self._total = 0
        self._shown_at = 0.0
        self._visible = False

    def stage(self, label: str, total: int, unit: str) -> None:
        """Show a new stage."""
        self._label, self._total, self._unit, self._done = label, total, unit, 0
        self._show()

    def advance(self, amount: int = 1) -> None:
        """Show how far the stage is."""
        self._done += amount
        if time.monotonic() - self._shown_at >= _SECONDS:
            self._show()

    def message(self, text: str) -> None:
        """Print a line that stays."""
        self.erase()
        self._write(self._console.styled(text, Style(dim=True)) + "\n")

    def erase(self) -> None:
        """Take the line away."""
        if self._visible:
            self._visible = False
            self._write(ERASE)

    def _show(self) -> None:
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            return
        far = f" {self._done}%" if self._unit == "%" else f": {self._done} of {self._total} {self._unit}"
        far = far if self._done else " ..."
        text = visible(f"{self._label}{far}")[: self._console.width - 1]
        self._shown_at, self._visible = time.monotonic(), True
        self._write(ERASE + self._console.styled(text, Style(dim=True)))

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()
