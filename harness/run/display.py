"""Progress on the terminal: what is loading, decoding, timed and measured, and how far the sweep is."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Display:
    """A bar for the sweep and one for what is being done; the Events of the engine.

    Without a terminal the bars are silent and each point is a line.
    """

    def __init__(self, console: Console, points: int) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._points = points
        self._sweep: TaskID | None = None
        self._now: TaskID | None = None
        self._done = 0

    def __enter__(self) -> Display:
        self._progress.start()
        self._sweep = self._progress.add_task("sweep", total=self._points, unit="points")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def loading(self, what: str, fraction: float) -> None:
        """A model is being loaded; fraction from 0 to 1."""
        description = f"loading {what}"
        if self._now is None or self._progress.tasks[-1].description != description:
            self._start(description, 100, "%")
        self._progress.update(self._now, completed=round(fraction * 100))  # type: ignore[arg-type]

    def waiting(self) -> None:
        """Another process is making a point that is to be made here."""
        self._progress.console.print("another process is at work on these points; waiting for it")

    def decoding(self, label: str, tokens: int) -> None:
        """A point begins to decode, `tokens` at most."""
        self._start(f"decoding {label}", tokens, "tokens")

    def decoded(self, tokens: int) -> None:
        """Some more tokens are there."""
        self._advance(tokens)

    def forcing(self, label: str, tokens: int) -> None:
        """A point's texts are read again for its drift, `tokens` of them."""
        self._start(f"drift of {label}", tokens, "tokens")

    def timing(self, label: str, repetitions: int) -> None:
        """A point begins to be timed."""
        self._start(f"timing {label}", repetitions, "runs")

    def timed(self) -> None:
        """One more repetition is done."""
        self._advance(1)

    def measuring(self, label: str, texts: int) -> None:
        """A point's metrics begin to be computed."""
        self._start(f"metrics of {label}", texts, "texts")

    def measured(self) -> None:
        """One more text has its metrics."""
        self._advance(1)

    def point(self, label: str, outcome: str, style: str) -> None:
        """A point has ended; say so in a line above the bars."""
        self._done += 1
        line = Text.assemble((f"{self._done:>4}/{self._points} ", "dim"), (f"{outcome:<8}", style), label)
        self._progress.console.print(line, soft_wrap=True)
        if self._sweep is not None:
            self._progress.update(self._sweep, completed=self._done)

    def _start(self, description: str, total: int, unit: str) -> None:
        if self._now is not None:
            self._progress.remove_task(self._now)
        self._now = self._progress.add_task(description, total=total, unit=unit)

    def _advance(self, amount: int) -> None:
        if self._now is not None:
            self._progress.advance(self._now, amount)
