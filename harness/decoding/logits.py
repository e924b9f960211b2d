"""Logits of one step, and the reductions that the recorder and several strategies share: computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

SHARED_TOP = 128
"""Top tokens that are found for all rows at once; more only for the rows that need more."""

_GROUP_SIZE = 16
"""Tokens of which only the best is compared in the first pass of `top_tokens` on a CPU."""


class TopTokens(NamedTuple):
    """The likeliest tokens of each row, (R, n) int64, likeliest first, and their logits, (R, n)."""

    tokens: Tensor
    logits: Tensor

    def select(self, index: Tensor) -> Self:
        """Return some of the rows."""
        return type(self)(self.tokens[index], self.logits[index])


class Logits:
    """(R, V) float32 logits, -inf where a token was removed, with reductions that are computed once."""

    def __init__(
        self,
        values: Tensor,
        log_p: Tensor | None = None,
        entropy: Tensor | None = None,
        squares: Tensor | None = None,
    ) -> None:
        """What is known of them: `log_p` log_softmax, its `entropy` (R,), `squares` (R,) sum of p^2."""
        self._values = values
        self._log_p = log_p
        self._entropy = entropy
        self._log_total: Tensor | None = None
        self._squares = None if squares is None else squares[:, None]
        self._deviation: Tensor | None = None
        self._top: dict[int, TopTokens] = {}

    @property
    def values(self) -> Tensor:
        """The logits themselves, (R, V)."""
        return self._values

    @property
    def device(self) -> torch.device:
        """The device they are on."""
        return self._values.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the logits: float32, but where a test is more exact."""
        return self._values.dtype

    @property
    def vocab_size(self) -> int:
        """V, the number of columns."""
        return self._values.shape[1]

    def top(self, count: int) -> TopTokens:
        """Return the `count` likeliest tokens of each row; ties are broken arbitrarily."""
        if count not in self._top:
            more = next((top for found, top in self._top.items() if found > count), None)
            if more is not None:
                return TopTokens(more.tokens[:, :count], more.logits[:, :count])
            self._top[count] = top_tokens(self.values, count)
        return self._top[count]

    def log_total(self) -> Tensor:
        """Return (R, 1), the log of the sum of exp(logits)."""
        if self._log_total is None:
            if self._log_p is None:
                self._log_total = self.values.logsumexp(-1, keepdim=True)
            else:
                best = self.values.amax(-1, keepdim=True)
                self._log_total = best - self._log_p.amax(-1, keepdim=True)
        return self._log_total

    def entropy(self) -> Tensor:
        """Return (R, 1) nats, the entropy of softmax(logits)."""
        if self._entropy is None:
            self._entropy = entropy_of(self.values.log_softmax(-1))
        return self._entropy[:, None]

    def squares(self) -> Tensor:
        """Return (R, 1), the sum of the squares of softmax(logits)."""
        if self._squares is None:
            doubled = (2 * self.values).logsumexp(-1, keepdim=True)
            self._squares = (doubled - 2 * self.log_total()).exp()
        return self._squares

    def deviation(self) -> Tensor:
        """Return (R, 1), the population's standard deviation of the logits above -inf."""
        if self._deviation is None:
            self._deviation = deviation_of(self.values)
        return self._deviation

    def select(self, index: Tensor) -> Logits:
        """Return some rows (M,), which share the reductions of all rows; a row may be repeated."""
        return _SelectedLogits(self, index)


class _SelectedLogits(Logits):
    """Rows of other logits, copied only when their values are used."""

    def __init__(self, source: Logits, index: Tensor) -> None:
        super().__init__(source._values)
        self._source, self._index = source, index
        self._selected: Tensor | None = None

    @property
    def values(self) -> Tensor:
        if self._selected is None:
            self._selected = self._source.values.index_select(0, self._index)
        return self._selected

    def top(self, count: int) -> TopTokens:
        if count <= SHARED_TOP:
            return self._source.top(count).select(self._index)
        return super().top(count)

    def log_total(self) -> Tensor:
        return self._source.log_total()[self._index]

    def entropy(self) -> Tensor:
        return self._source.entropy()[self._index]

    def squares(self) -> Tensor:
        return self._source.squares()[self._index]

    def deviation(self) -> Tensor:
        return self._source.deviation()[self._index]

    def select(self, index: Tensor) -> Logits:
        return _SelectedLogits(self._source, self._index[index])


class _JoinedLogits(Logits):
    """The rows of several logits, whose values are joined only when they are used."""

    def __init__(self, parts: Sequence[Logits]) -> None:
        super().__init__(parts[0]._values)
        self._parts = parts
        self._joined: Tensor | None = None
        self._reductions: dict[str, Tensor] = {}

    @property
    def values(self) -> Tensor:
        if self._joined is None:
            self._joined = torch.cat([part.values for part in self._parts])
        return self._joined

    def top(self, count: int) -> TopTokens:
        if count not in self._top:
            tops = [part.top(count) for part in self._parts]
            self._top[count] = TopTokens(*(torch.cat(columns) for columns in zip(*tops, strict=True)))
        return self._top[count]

    def log_total(self) -> Tensor:
        return self._of_parts("log_total")

    def entropy(self) -> Tensor:
        return self._of_parts("entropy")

    def squares(self) -> Tensor:
        return self._of_parts("squares")

    def deviation(self) -> Tensor:
        return self._of_parts("deviation")

    def _of_parts(self, name: str) -> Tensor:
        if name not in self._reductions:
            self._reductions[name] = torch.cat([getattr(part, name)() for part in self._parts])
        return self._reductions[name]


def joined(parts: Sequence[Logits]) -> Logits:
    """Return the rows of several logits, one after the other; what is known of the parts is kept."""
    return parts[0] if len(parts) == 1 else _JoinedLogits(parts)


def top_tokens(logits: Tensor, count: int) -> TopTokens:
    """Return the `count` likeliest tokens of each row of (R, V) logits; ties are broken arbitrarily.

    On a CPU `topk` visits the vocabulary token by token. So the maximum of each group of 16 is found first,
    with vector instructions, and only the `count` groups with the best maxima are searched.
    """
    groups = logits.shape[1] // _GROUP_SIZE
    if logits.device.type != "cpu" or groups < 2 * count or not count:
        top = logits.topk(count, dim=-1)
        return TopTokens(top.indices, top.values)
    grouped = groups * _GROUP_SIZE
    maxima = logits[:, :grouped].view(len(logits), _GROUP_SIZE, groups).amax(1)
    best = maxima.topk(count, sorted=False).indices
    members = torch.arange(0, grouped, groups)[None, :, None] + best[:, None, :]
    rest = torch.arange(grouped, logits.shape[1]).expand(len(logits), -1)
    tokens = torch.cat([members.flatten(1), rest], dim=1)
    top = logits.gather(1, tokens).topk(count, dim=-1)
    return TopTokens(tokens.gather(1, top.indices), top.values)


def entropy_of(log_p: Tensor) -> Tensor:
    """Return (R,) entropy in nats of (R, V) log-probabilities; a token without probability adds nothing."""
    return entropy_and_squares(log_p)[0]


def entropy_and_squares(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entropy, and (R,) the sum of the squared probabilities.

    Allocates one temporary of that size only: on a CPU fresh pages cost more than the arithmetic.
    """
    p = log_p.exp()
    nan_if_nan = p[:, 0] * 0.0  # a distribution with a NaN is NaN throughout, and its entropy must be NaN
    squares = torch.linalg.vector_norm(p, dim=-1).square_()
    # 0 times -inf is NaN, and left out.
    return p.mul_(log_p).nansum(-1).neg_().add_(nan_if_nan), squares


def deviation_of(logits: Tensor) -> Tensor:
    """Return (R, 1), the population's standard deviation of the logits above -inf; 0 without any."""
    mean = logits.mean(-1, keepdim=True)
    if logits.device.type == "cpu" and bool(mean.isfinite().all()):
        return torch.linalg.vector_norm(logits - mean, dim=-1, keepdim=True) / logits.shape[1] ** 0.5
    left = logits > float("-inf")
    count = left.sum(-1, keepdim=True).clamp_(min=1)
    mean = logits.masked_fill(~left, 0.0).sum(-1, keepdim=True) / count
    centred = (logits - mean).masked_fill_(~left, 0.0)
    return torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / count.sqrt()
