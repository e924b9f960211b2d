"""Progress on the terminal: a bar for the sweep, one for the current stage, and a line a point."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

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

from harness.plan.plan import Plan
from harness.report.console import SafeConsole
from harness.terminal import visible, visible_streams


class Display:
    """The terminal's `harness.progress.Progress`. Without a terminal the bars are silent."""

    def __init__(self, console: SafeConsole, points: int) -> None:
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
        self._open = ExitStack()
        self._points = points
        self._sweep = self._progress.add_task("sweep", total=points, unit="points")
        self._stage: TaskID | None = None
        self._done = 0

    def __enter__(self) -> Display:
        self._open.enter_context(self._progress)
        # The bars take the standard streams, and what is printed on those beside them is hostile text too.
        self._open.enter_context(visible_streams())
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def stage(self, label: str, total: int, unit: str) -> None:
        """Show a bar for a new stage in place of the last one's."""
        if self._stage is not None:
            self._progress.remove_task(self._stage)
        self._stage = self._progress.add_task(visible(label), total=total, unit=unit)

    def advance(self, amount: int = 1) -> None:
        """Move the stage's bar."""
        if self._stage is not None:
            self._progress.advance(self._stage, amount)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(Text(visible(text)), soft_wrap=True)

    def point(self, label: str, outcome: str, style: str) -> None:
        """Print the outcome of a point, and move the sweep's bar."""
        self._done += 1
        line = Text.assemble(
            (f"{self._done:>4}/{self._points} ", "dim"), (f"{outcome:<8}", style), visible(label)
        )
        self._progress.console.print(line, soft_wrap=True)
        self._progress.advance(self._sweep)


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
