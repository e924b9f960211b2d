"""What the engine tells while it goes on."""

from __future__ import annotations

from typing import Protocol


class Events(Protocol):
    """What a run tells while it goes on."""

    def loading(self, what: str, fraction: float) -> None:
        """A model is being loaded; fraction from 0 to 1."""

    def waiting(self) -> None:
        """Another process is making a point that is to be made here."""

    def decoding(self, label: str, tokens: int) -> None:
        """A point begins to decode, `tokens` at most."""

    def decoded(self, tokens: int) -> None:
        """Some more tokens are there."""

    def forcing(self, label: str, tokens: int) -> None:
        """A point's texts are read again for its drift, `tokens` of them."""

    def timing(self, label: str, repetitions: int) -> None:
        """A point begins to be timed."""

    def timed(self) -> None:
        """One more repetition is done."""

    def measuring(self, label: str, texts: int) -> None:
        """A point's metrics begin to be computed."""

    def measured(self) -> None:
        """One more text has its metrics."""
