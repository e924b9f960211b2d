"""What a truncation left of a vocabulary, packed: a few tokens a row instead of all of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_FEW = 1 / 16
"""The share of the vocabulary up to which packing saves work."""


class Kept(NamedTuple):
    """The tokens that are left in each row, in the order of their ids; behind the last, scores are -inf.

    Attributes:
        tokens: (R, K) int64.
        scores: (R, K) theirs.
        counts: (R,) int32, how many are left.
    """

    tokens: Tensor
    scores: Tensor
    counts: Tensor

    def rows(self, index: Tensor) -> Kept:
        """Those of some rows."""
        return Kept(self.tokens[index], self.scores[index], self.counts[index])


def few_kept(scores: Tensor) -> Kept | None:
    """Pack (R, V) scores, -inf where a token was cut.

    Returns:
        None where much is left, and on an accelerator, where finding out makes the host wait.
    """
    if scores.device.type != "cpu" or not len(scores):
        return None
    left = scores > float("-inf")
    flat = left.reshape(-1).nonzero()[:, 0]
    if len(flat) > scores.numel() * _FEW:
        return None
    vocabulary = scores.shape[1]
    rows = flat // vocabulary
    counts = rows.bincount(minlength=len(scores))
    places = torch.arange(len(flat)) - (counts.cumsum(0) - counts)[rows]
    shape = (len(scores), max(int(counts.max()), 1))
    tokens = torch.zeros(shape, dtype=torch.long)
    packed = torch.full(shape, float("-inf"), dtype=scores.dtype)
    tokens[rows, places] = flat - rows * vocabulary
    packed[rows, places] = scores.reshape(-1)[flat]
    return Kept(tokens, packed, counts.to(torch.int32))
