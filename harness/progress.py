"""What long work reports while it goes on: its stages, how far it is, and lines worth reading."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Progress(Protocol):
    """Receives the progress of a run; `run.display` draws it on the terminal."""

    def stage(self, label: str, total: int, unit: str) -> None:
        """Begin a stage of `total` units: `stage("decoding fable/fp32/greedy", 512, "tokens")`."""

    def advance(self, amount: int = 1) -> None:
        """Report `amount` more units of the current stage as done."""

    def message(self, text: str) -> None:
        """Report a line that is worth reading, such as a wait for another process."""


@runtime_checkable
class ManyBars(Protocol):
    """A Progress that can show several stages at once."""

    def beside(self, prefix: str) -> Progress:
        """Return a Progress with a bar of its own, whose labels begin with `prefix`."""


def bar_beside(progress: Progress, prefix: str) -> Progress:
    """Return a Progress with a bar of its own, a silent one where there is but one bar."""
    return progress.beside(prefix) if isinstance(progress, ManyBars) else SILENT


class Silent:
    """A Progress that shows nothing."""

    def stage(self, label: str, total: int, unit: str) -> None:
        """Ignore the stage."""

    def advance(self, amount: int = 1) -> None:
        """Ignore the advance."""

    def message(self, text: str) -> None:
        """Ignore the line."""


SILENT: Progress = Silent()


class StagesInPercent:
    """Reports the steps of loading a model, each a fraction that is done, as stages in percent."""

    def __init__(self, progress: Progress) -> None:
        """Report to `progress`."""
        self._progress = progress
        self._label = ""
        self._percent = 0

    def __call__(self, what: str, fraction: float) -> None:
        """Report a step's fraction; another step is a new stage."""
        if self._label != what:
            self._label, self._percent = what, 0
            self._progress.stage(what, 100, "%")
        percent = round(100 * fraction)
        self._progress.advance(percent - self._percent)
        self._percent = percent
