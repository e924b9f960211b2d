"""Arithmetic over whole vocabularies, a few rows at a time: on a CPU what lies between stays in its cache.

A step of a hundred rows has megabytes of logits, and each operation on all of them reads and writes main
memory; on a few rows at once the same operations take a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ELEMENTS = 1 << 18
"""Of a block at most: a megabyte of float32."""

_FEW = 32_000
"""Values of which torch's `argmax` takes no longer than several operations on fewer."""

GROUP_SIZE = 16
"""Tokens of a group, of which a first pass compares only the largest."""


def block_rows(values: Tensor, share: float = 1.0) -> int:
    """Return how many rows of (R, V) values make a block, at least 1; all of them but on a CPU.

    `share` makes blocks smaller, where what lies between is wider than the values.
    """
    if values.device.type != "cpu":
        return max(1, len(values))
    return max(1, int(share * _ELEMENTS) // max(1, values.shape[1]))


class BlockMemory:
    """Memory that the blocks of some rows share, one after the other: it stays in the cache."""

    def __init__(self) -> None:
        """Take none yet."""
        self._values: Tensor | None = None

    def take(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return (r, V) to be written, where what was taken before may be lost; the first is the largest."""
        if self._values is None:
            self._values = like.new_empty(shape)
        return self._values[: shape[0]]


def group_maxima(values: Tensor) -> Tensor:
    """Return the largest of each group of tokens of (R, V) values: of `group_members` of 0, 1, 2, ...

    On a CPU `topk` and `argmax` visit the vocabulary token by token, and `amax` of a row takes three times as
    long; here whole groups are compared by vector instructions.
    """
    groups = values.shape[1] // GROUP_SIZE
    grouped = groups * GROUP_SIZE
    maxima = values[:, :grouped].view(len(values), GROUP_SIZE, groups).amax(1)
    return maxima if grouped == values.shape[1] else torch.cat([maxima, values[:, grouped:]], dim=1)


def group_members(groups: Tensor, vocabulary: int) -> Tensor:
    """Return the 16 tokens of each group, ascending, (..., 16) int64, of groups (..., 1).

    Group g of G has the tokens g, g + G, g + 2 G, ...; each token that is left over is a group by itself,
    and stands here 16 times.
    """
    count = vocabulary // GROUP_SIZE
    members = groups + torch.arange(0, count * GROUP_SIZE, max(1, count), device=groups.device)
    return torch.where(groups < count, members, groups + count * (GROUP_SIZE - 1))


def first_argmax(values: Tensor, maxima: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
    """Return (N,) int64, the index of each row's largest value, the first of equal ones: torch's `argmax`.

    As there, NaN counts as the largest. Of all rows of (R, V) values, or of `rows` (N,); `maxima` are their
    `group_maxima` where known.
    """
    count, vocabulary = len(values if rows is None else rows), values.shape[1]
    if values.device.type != "cpu" or vocabulary < 2 * GROUP_SIZE or count * vocabulary < _FEW:
        return (values if rows is None else values.index_select(0, rows)).argmax(-1)
    if maxima is None:
        maxima = group_maxima(values)
    rows = torch.arange(len(values)) if rows is None else rows
    maxima = maxima.index_select(0, rows)
    best, group = maxima.max(-1, keepdim=True)
    members = group_members(group, values.shape[1])
    first = members.gather(1, values[rows[:, None], members].argmax(-1, keepdim=True))[:, 0]
    several = ((maxima == best).sum(-1) != 1).nonzero()[:, 0]  # equal ones, or NaN
    if len(several):
        first[several] = values[rows[several]].argmax(-1)
    return first
