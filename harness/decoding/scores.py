"""Scores over the vocabulary, and what is asked of them more than once: by the recorder and by strategies.

The rows of a step stand in one tensor, and strategies that stand at some of them ask the same of them: how
much the exponentials come to, which tokens are likeliest. It is found once, for all rows together.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEAR = 64
"""So many of the likeliest tokens are found for all rows at once; more only for the rows that need more."""

_ROUNDS = 16
"""The vocabulary is cut in so many parts, of whose scores at the same place only the best is compared."""


class Likeliest(NamedTuple):
    """The likeliest tokens of each row, likeliest first.

    Attributes:
        tokens: (R, n) int64.
        scores: (R, n) theirs.
    """

    tokens: Tensor
    scores: Tensor

    def of_rows(self, index: Tensor) -> Likeliest:
        """Those of some rows."""
        return Likeliest(self.tokens[index], self.scores[index])


class Scores:
    """(R, V) float32 logits, -inf where a token was cut."""

    def __init__(self, logits: Tensor, log_p: Tensor | None = None, entropy: Tensor | None = None) -> None:
        """`log_p` is their log_softmax and `entropy` its entropy (R,), where these are known."""
        self._logits = logits
        self._log_p = log_p
        self._entropy = entropy
        self._log_total: Tensor | None = None
        self._likeliest: dict[int, Likeliest] = {}

    @property
    def logits(self) -> Tensor:
        """(R, V)."""
        return self._logits

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self._logits.device

    @property
    def vocabulary(self) -> int:
        """V."""
        return self._logits.shape[1]

    def likeliest(self, count: int) -> Likeliest:
        """The `count` likeliest tokens of each row; among equal ones any."""
        if count not in self._likeliest:
            self._likeliest[count] = likeliest(self.logits, count)
        return self._likeliest[count]

    def log_total(self) -> Tensor:
        """(R, 1), the log of the sum of exp(logits)."""
        if self._log_total is None:
            if self._log_p is None:
                self._log_total = self.logits.logsumexp(-1, keepdim=True)
            else:
                best = self.logits.amax(-1, keepdim=True)
                self._log_total = best - self._log_p.amax(-1, keepdim=True)
        return self._log_total

    def entropy(self) -> Tensor:
        """(R, 1) nats, of softmax(logits)."""
        if self._entropy is None:
            self._entropy = entropy_of(self.logits.log_softmax(-1))
        return self._entropy[:, None]

    def of_rows(self, index: Tensor) -> Scores:
        """Some rows (M,), which know what is known of all; a row may come more than once."""
        return _SomeRows(self, index)


class _SomeRows(Scores):
    """Rows of others; their logits are copied only when they are asked for."""

    def __init__(self, whole: Scores, index: Tensor) -> None:
        super().__init__(whole._logits)
        self._whole, self._index = whole, index
        self._own: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        if self._own is None:
            self._own = self._whole.logits.index_select(0, self._index)
        return self._own

    def likeliest(self, count: int) -> Likeliest:
        if count <= NEAR:
            return self._whole.likeliest(count).of_rows(self._index)
        return super().likeliest(count)

    def log_total(self) -> Tensor:
        return self._whole.log_total()[self._index]

    def entropy(self) -> Tensor:
        return self._whole.entropy()[self._index]

    def of_rows(self, index: Tensor) -> Scores:
        return _SomeRows(self._whole, self._index[index])


def likeliest(scores: Tensor, count: int) -> Likeliest:
    """The `count` likeliest tokens of each row of (R, V) scores; among equal ones any.

    On a CPU `topk` goes through the vocabulary token by token. A token that is among the `count` likeliest is
    the best of its group, or one of that is; so the best of each group of 16 are found first, with vector
    instructions, and only the `count` best groups are looked into.
    """
    groups = scores.shape[1] // _ROUNDS
    if scores.device.type != "cpu" or groups < 2 * count or not count:
        top = scores.topk(count, dim=-1)
        return Likeliest(top.indices, top.values)
    inside = groups * _ROUNDS
    best = scores[:, :inside].view(len(scores), _ROUNDS, groups).amax(1).topk(count, sorted=False).indices
    members = torch.arange(0, inside, groups)[None, :, None] + best[:, None, :]
    rest = torch.arange(inside, scores.shape[1]).expand(len(scores), -1)
    tokens = torch.cat([members.flatten(1), rest], dim=1)
    top = scores.gather(1, tokens).topk(count, dim=-1)
    return Likeliest(tokens.gather(1, top.indices), top.values)


def entropy_of(log_p: Tensor) -> Tensor:
    """(R,) entropy in nats of (R, V) log-probabilities; a token without mass adds nothing.

    One temporary of that size and no more: on a CPU fresh pages cost more than the arithmetic.
    """
    p = log_p.exp()
    broken = p[:, 0] * 0.0  # a distribution with a NaN is NaN throughout, and stays one
    # 0 times -inf is no number, and left out.
    return p.mul_(log_p).nansum(-1).neg_().add_(broken)
