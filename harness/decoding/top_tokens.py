"""The likeliest tokens of rows of logits, found through the largest of groups of tokens."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from harness.decoding.row_blocks import GROUP_SIZE

_GROUPS_OF_GROUPS = 8
"""Groups of tokens that are compared at once where the best of them are looked for."""


class TopTokens(NamedTuple):
    """The likeliest tokens of each row, (R, n) int64, likeliest first, and their logits, (R, n)."""

    tokens: Tensor
    logits: Tensor

    def select(self, index: Tensor) -> Self:
        """Return some of the rows."""
        return type(self)(self.tokens[index], self.logits[index])


def top_tokens(logits: Tensor, maxima: Tensor, count: int) -> TopTokens:
    """Return the `count` likeliest tokens of each row of (R, V) logits; ties are broken arbitrarily.

    `maxima` are their `group_maxima`: only the `count` groups with the best ones are searched, and these are
    looked for in the same way.
    """
    groups = logits.shape[1] // GROUP_SIZE
    if logits.device.type != "cpu" or groups < 2 * count or not count:
        return TopTokens(*reversed(logits.topk(count)))
    best = _largest_columns(maxima[:, :groups], count)
    return _largest_of_groups(logits, GROUP_SIZE, best, count, in_order=True)


def _largest_columns(values: Tensor, count: int) -> Tensor:
    """Return (R, count) int64, where the largest of (R, n) values are, in any order."""
    groups = _grouped(values, _GROUPS_OF_GROUPS)
    if groups.shape[2] < 2 * count:
        return values.topk(count, sorted=False).indices
    best = groups.amax(1).topk(count, sorted=False).indices
    return _largest_of_groups(values, _GROUPS_OF_GROUPS, best, count, in_order=False).tokens


def _grouped(values: Tensor, size: int) -> Tensor:
    """Return (R, size, G), the members of the groups in (R, V) values; at most `size` - 1 are left over."""
    groups = values.shape[1] // size
    return values[:, : size * groups].unflatten(1, (size, groups))


def _largest_of_groups(values: Tensor, size: int, groups: Tensor, count: int, *, in_order: bool) -> TopTokens:
    """Return the columns of the `count` largest of (R, V) values among some groups (R, n) of `size` columns.

    And among those that are left over. `in_order`: the largest first.
    """
    grouped, chosen = _grouped(values, size), groups.shape[1]
    found = grouped.gather(2, groups[:, None].expand(-1, size, -1)).flatten(1)
    left_over = values[:, size * grouped.shape[2] :]
    if left_over.shape[1]:
        found = torch.cat([found, left_over], dim=1)
    top = found.topk(count, sorted=in_order)
    member = top.indices.div(chosen, rounding_mode="floor")
    columns = groups.gather(1, top.indices % chosen).add_(member.mul_(grouped.shape[2]))
    if left_over.shape[1]:
        beyond = top.indices - size * chosen
        columns = torch.where(beyond < 0, columns, beyond + size * grouped.shape[2])
    return TopTokens(columns, top.values)
