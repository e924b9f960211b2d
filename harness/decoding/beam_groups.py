"""The arithmetic of diverse beam search (Vijayakumar et al. 2018, arXiv:1610.02424).

The beams are in groups that choose one after the other at each step. A token that beams of earlier groups
have just chosen loses `diversity_penalty` for each of them, and the penalised scores accumulate. Each group
keeps the best outputs that it finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from harness.decoding.outputs import BestOutputs, Output
from harness.decoding.upload import on_device


def penalised(scores: Tensor, chosen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Return (n, m, V) scores minus the penalty for each time that earlier groups have chosen a token.

    `chosen` are the tokens that they have chosen at this step, of each of the n prompts.
    """
    counts = scores.new_zeros(scores.shape[0], scores.shape[2])
    for row, tokens in enumerate(chosen):
        if tokens:
            index = on_device(tokens, scores.device)
            counts[row].index_add_(0, index, counts.new_ones(len(tokens)))
    return scores - penalty * counts[:, None]


def in_turn(groups: Sequence[BestOutputs]) -> Iterator[Output]:
    """Yield the outputs of all groups: the best of each group, best first, then the second of each, and on.

    So the first of all is the best of all, and as many as there are groups come from different groups.
    """
    for rank in range(max((len(group.outputs) for group in groups), default=0)):
        same = [group.outputs[rank] for group in groups if rank < len(group.outputs)]
        yield from sorted(same, key=lambda one: -one.score)
