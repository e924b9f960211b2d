"""What a search finds: open and finished sequences, and the best of those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

EndReason = Literal["eos", "length", "stop_string"]

Ends = Callable[[Sequence[int]], EndReason | None]
"""What the last of a sequence's tokens ended it with."""


@dataclass(frozen=True)
class Output:
    """A finished sequence of a search: its tokens, what ended it, and the score that it is ranked by."""

    tokens: tuple[int, ...]
    reason: EndReason
    score: float


@dataclass(frozen=True)
class Beam:
    """An open sequence: the row that it goes on from, its tokens, and the sum of its penalised scores."""

    row: int
    tokens: tuple[int, ...] = ()
    total: float = 0.0


@dataclass
class BestOutputs:
    """The best outputs of one group of beams, by sum of scores / length ** length_penalty, EOS counted.

    Attributes:
        size: at most so many.
        outputs: from the best to the worst; of equal ones the first found comes first.
    """

    size: int
    length_penalty: float
    early_stopping: Literal[True, False, "never"]
    longest: int
    outputs: list[Output] = field(default_factory=list)

    def add(self, tokens: tuple[int, ...], reason: EndReason, total: float) -> None:
        """Add a finished sequence, if it is among the best."""
        found = Output(tokens, reason, total / len(tokens) ** self.length_penalty)
        self.outputs = sorted([*self.outputs, found], key=lambda one: -one.score)[: self.size]

    def complete(self, best_total: float, length: int) -> bool:
        """Return whether no open beam can do better, as transformers estimates it.

        Args:
            best_total: the largest sum among this step's candidates.
            length: their tokens.
        """
        if len(self.outputs) < self.size:
            return False
        if self.early_stopping is True:
            return True
        longest = self.early_stopping == "never" and self.length_penalty > 0
        attainable = best_total / (self.longest if longest else length) ** self.length_penalty
        return self.outputs[-1].score >= attainable
