"""The arithmetic of diverse beam search (Vijayakumar et al. 2018, arXiv:1610.02424).

The beams are in groups that choose one after the other at each step. A token that beams of earlier groups
have just chosen loses `diversity_penalty` for each of them, and the penalised scores accumulate. Each group
keeps the best outputs that it finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

EndReason = Literal["eos", "length", "stop_string"]


@dataclass(frozen=True)
class Output:
    """A finished sequence of a search: its tokens, what ended it, and its score with all penalties."""

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
    """The outputs of one group with the best scores: the sum over length ** length_penalty, EOS counted.

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


def penalised(scores: Tensor, chosen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Return (n, m, V) scores minus the penalty for each time that earlier groups have chosen a token.

    `chosen` are the tokens that they have chosen at this step, of each of the n prompts.
    """
    counts = scores.new_zeros(scores.shape[0], scores.shape[2])
    for row, tokens in enumerate(chosen):
        if tokens:
            index = torch.tensor(tokens, device=scores.device)
            counts[row].index_add_(0, index, counts.new_ones(len(tokens)))
    return scores - penalty * counts[:, None]


def in_turn(groups: Sequence[BestOutputs]) -> Iterator[Output]:
    """Yield the outputs of all groups: the best of each group, best first, then the second of each, and on.

    So the first of all is the best of all, and as many as there are groups come from different groups.
    """
    for rank in range(max((len(group.outputs) for group in groups), default=0)):
        same = [group.outputs[rank] for group in groups if rank < len(group.outputs)]
        yield from sorted(same, key=lambda one: -one.score)
