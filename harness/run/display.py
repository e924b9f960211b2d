"""Progress on the terminal: a bar for the sweep, one for the current stage, and a line a point."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from harness.plan.plan import Plan
from harness.progress import Progress as WorkProgress
from harness.report.console import SafeConsole
from harness.run.estimate import Estimate
from harness.run.notebook_bars import NotebookBars
from harness.terminal import visible, visible_streams

NARROW = 100
"""Columns of a terminal below which the bars are short."""


class Display:
    """The `harness.progress.Progress` of a terminal or a notebook. Elsewhere the bars are silent.

    Args:
        console: what is printed to.
        points: of the sweep.
        work: expected units by kind of stage (`run.estimate.expected_work`), for the estimate of the sweep.
    """

    def __init__(self, console: SafeConsole, points: int, work: Mapping[str, float] | None = None) -> None:
        self._estimate = Estimate(work or {})
        # The standard streams belong to the main thread.
        own_streams = threading.current_thread() is threading.main_thread()
        kind = NotebookBars if console.is_jupyter and not console.quiet else Progress
        self._progress = kind(
            SpinnerColumn(),
            # In a column of its own that takes what the others leave, so that a new label moves nothing.
            TextColumn("{task.description}", markup=False, table_column=_flexible()),
            BarColumn(bar_width=24 if console.width >= NARROW else 10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeElapsedColumn(),
            _Left(self._estimate),
            console=console,
            transient=True,
            expand=True,
            disable=console.quiet or not console.is_terminal,
            redirect_stdout=own_streams,
            redirect_stderr=own_streams,
        )
        self._takes_streams = own_streams and not console.quiet
        self._open = ExitStack()
        self._points = points
        self._sweep = self._progress.add_task("sweep", total=points, unit="points", whole=True)
        self._bar = _Bar(self, self._progress, self._estimate)
        self._done = 0

    def __enter__(self) -> Display:
        self._open.enter_context(self._progress)
        # The bars take the standard streams, and what is printed on those beside them is hostile text too.
        if self._takes_streams:
            self._open.enter_context(visible_streams())
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def stage(self, label: str, total: int, unit: str) -> None:
        """Show a bar for a new stage in place of the last one's."""
        self._bar.stage(label, total, unit)

    def advance(self, amount: int = 1) -> None:
        """Move the stage's bar."""
        self._bar.advance(amount)

    def beside(self, prefix: str) -> WorkProgress:
        """Return a Progress with a bar of its own, whose labels begin with `prefix`."""
        self._bar.stage("", 0, "")
        return _Bar(self, self._progress, self._estimate, prefix)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(Text(visible(text)), soft_wrap=True)

    def point(self, label: str, outcome: str, style: str) -> None:
        """Print the outcome of a point, and move the sweep's bar."""
        self._done += 1
        line = Text.assemble(
            (f"{self._done:>4}/{self._points} ", "dim"), (f"{outcome:<8}", style), visible(label)
        )
        # In a notebook each line is an output of its own, and the result below lists the points.
        if outcome == "failed" or not isinstance(self._progress, NotebookBars):
            self._progress.console.print(line, soft_wrap=True)
        self._progress.advance(self._sweep)


class _Bar:
    """The bar of one worker's stage; there is none while the stage has no label."""

    def __init__(self, display: Display, progress: Progress, estimate: Estimate, prefix: str = "") -> None:
        self._display, self._progress, self._prefix = display, progress, prefix
        self._estimate = estimate
        self._task: TaskID | None = None
        self._total = self._done = 0

    def stage(self, label: str, total: int, unit: str) -> None:
        """Show a bar for a new stage in place of the last one's."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._estimate.begin(label, total, time.monotonic(), self)
        shown = visible(self._prefix + label)
        self._task = self._progress.add_task(shown, total=total, unit=unit) if label else None
        self._total, self._done = total, 0

    def advance(self, amount: int = 1) -> None:
        """Move the bar; one that shares its stage with others may do more than its part."""
        self._estimate.advance(amount, self)
        if self._task is not None:
            self._done += amount
            self._total = max(self._total, self._done)
            self._progress.update(self._task, advance=amount, total=self._total)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self._display.message(self._prefix + text)


class _Left(ProgressColumn):
    """The time left: of the sweep by our estimate, of a stage by rich's."""

    max_refresh = 0.5

    def __init__(self, estimate: Estimate) -> None:
        super().__init__(Column(no_wrap=True, min_width=len("> 0:00 left"), justify="right"))
        self._estimate = estimate
        self._of_a_stage = TimeRemainingColumn(compact=True)

    def render(self, task: Task) -> Text:
        """Return `~1:20 left`, or `> 1:20 left` where more is to come; empty while nothing is known."""
        if not task.fields.get("whole"):
            return self._of_a_stage.render(task)
        found = self._estimate.seconds_left(time.monotonic())
        return Text() if found is None else Text(left_text(*found), "cyan")


def left_text(seconds: float, more: bool) -> str:
    """Return a time as `~1:20 left`; with `more` to come as `> 1:20 left`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{'> ' if more else '~'}{clock} left"


def _flexible() -> Column:
    return Column(ratio=1, no_wrap=True, overflow="ellipsis")


def print_warnings(console: SafeConsole, plan: Plan) -> None:
    """Print each warning of a plan's points once, and of how many points it is where not of all."""
    counts = Counter(warning for job in plan.jobs for warning in job.warnings)
    for warning, count in counts.items():
        where = "" if count == len(plan.jobs) else f" ({count} of {len(plan.jobs)} points)"
        print_warning(console, warning + where)


def print_warning(console: SafeConsole, warning: str) -> None:
    """Print a warning."""
    console.print(Text.assemble(("warning ", "yellow"), visible(warning)), soft_wrap=True)


def print_hints(console: SafeConsole, plan: Plan) -> None:
    """Print a plan's lines of advice."""
    for hint in plan.hints:
        console.print(Text.assemble(("hint ", "cyan"), visible(hint)), soft_wrap=True)


def print_title(console: SafeConsole, plan: Plan) -> None:
    """Print the title of a plan's sweep, and the name of its folder."""
    text = Text.assemble("sweep ", (visible(plan.title), "bold"), (f"  {plan.folder.name}", "dim"))
    console.print(text, soft_wrap=True)
