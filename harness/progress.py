"""What long work reports while it goes on: its stages, how far it is, and lines worth reading."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a run; `run.display` draws it on the terminal."""

    def stage(self, label: str, total: int, unit: str) -> None:
        """Begin a stage of `total` units: `stage("decoding fable/fp32/greedy", 512, "tokens")`."""

    def advance(self, amount: int = 1) -> None:
        """Report `amount` more units of the current stage as done."""

    def message(self, text: str) -> None:
        """Report a line that is worth reading, such as a wait for another process."""


class Silent:
    """A Progress that shows nothing."""

    def stage(self, label: str, total: int, unit: str) -> None:
        """Ignore the stage."""

    def advance(self, amount: int = 1) -> None:
        """Ignore the advance."""

    def message(self, text: str) -> None:
        """Ignore the line."""


SILENT: Progress = Silent()
