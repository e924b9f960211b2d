"""Logits of one step, and the reductions that the recorder and several strategies share: computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from harness.decoding.row_blocks import block_rows

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


class Reductions(NamedTuple):
    """What is known of whole rows of logits x, (R, 1) each.

    Attributes:
        best: the largest logit.
        log_rest: log of the sum of exp(x - best); so x - best - log_rest are log-probabilities.
        entropy: nats.
        squares: the sum of the squared probabilities.
        mean: of x - best.
        deviation: the population's standard deviation of the logits above -inf.
    """

    best: Tensor
    log_rest: Tensor
    entropy: Tensor
    squares: Tensor
    mean: Tensor
    deviation: Tensor


class Logits:
    """(R, V) float32 logits, -inf where a token was removed, with reductions that are computed once."""

    def __init__(self, values: Tensor) -> None:
        """Take the logits; nothing is computed of them yet."""
        self._values = values
        self._reductions: Reductions | None = None
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

    def widest_top(self) -> TopTokens | None:
        """Return the most of the likeliest tokens that were asked for so far; None without any."""
        return self._top[max(self._top)] if self._top else None

    def reductions(self) -> Reductions:
        """Return what is known of the whole rows."""
        if self._reductions is None:
            self._reductions = reductions(self.values)
        return self._reductions

    def log_total(self) -> Tensor:
        """Return (R, 1), the log of the sum of exp(logits)."""
        return self.reductions().best + self.reductions().log_rest

    def entropy(self) -> Tensor:
        """Return (R, 1) nats, the entropy of softmax(logits)."""
        return self.reductions().entropy

    def squares(self) -> Tensor:
        """Return (R, 1), the sum of the squares of softmax(logits)."""
        return self.reductions().squares

    def deviation(self) -> Tensor:
        """Return (R, 1), the population's standard deviation of the logits above -inf."""
        return self.reductions().deviation

    def log_p(self) -> Tensor:
        """Return (R, V) log-probabilities, which nothing keeps."""
        return log_probs(self.values, self.reductions())

    def logprobs(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return (N, n) log-probabilities of tokens (N, n) in some rows (N,)."""
        logits = self.values[rows[:, None], tokens]
        return log_probs(logits, Reductions(*(column[rows] for column in self.reductions())))

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

    def reductions(self) -> Reductions:
        return Reductions(*(column[self._index] for column in self._source.reductions()))

    def select(self, index: Tensor) -> Logits:
        return _SelectedLogits(self._source, self._index[index])


class _JoinedLogits(Logits):
    """The rows of several logits, whose values are joined only when they are used."""

    def __init__(self, parts: Sequence[Logits]) -> None:
        super().__init__(parts[0]._values)
        self._parts = parts
        self._joined: Tensor | None = None

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

    def reductions(self) -> Reductions:
        if self._reductions is None:
            self._reductions = _joined_columns([part.reductions() for part in self._parts])
        return self._reductions


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


def reductions(logits: Tensor) -> Reductions:
    """Return what is known of whole rows of (R, V) logits; NaN of rows with a NaN or +inf, or all -inf."""
    blocks = logits.split(block_rows(logits))
    return _joined_columns([_of_block(block) for block in blocks])


def _of_block(logits: Tensor) -> Reductions:
    best = logits.amax(-1, keepdim=True)
    centred = logits - best
    p = centred.exp()
    total = p.sum(-1, keepdim=True)
    log_rest = total.log()
    squares = (torch.linalg.vector_norm(p, dim=-1, keepdim=True) / total).square_()
    # 0 times -inf is NaN, and left out; that of a row with a NaN is in the total.
    entropy = log_rest - p.mul_(centred).nansum(-1, keepdim=True) / total
    mean = centred.mean(-1, keepdim=True)
    if logits.device.type == "cpu" and bool(mean.isfinite().all()):
        square = torch.linalg.vector_norm(centred.sub_(mean), dim=-1, keepdim=True)
        deviation = square / logits.shape[1] ** 0.5
    else:
        deviation = deviation_of(logits)
    return Reductions(best, log_rest, entropy, squares, mean, deviation)


def _joined_columns(several: Sequence[Reductions]) -> Reductions:
    return several[0] if len(several) == 1 else Reductions(*map(torch.cat, zip(*several, strict=True)))


def log_probs(logits: Tensor, known: Reductions) -> Tensor:
    """Return log-probabilities of (R, n) logits, of rows of which the reductions are known."""
    return (logits - known.best).sub_(known.log_rest)


def entropy_of(log_p: Tensor) -> Tensor:
    """Return (R,) entropy in nats of (R, V) log-probabilities; a token without probability adds nothing."""
    p = log_p.exp()
    nan_if_nan = p[:, 0] * 0.0  # a distribution with a NaN is NaN throughout, and its entropy must be NaN
    # 0 times -inf is NaN, and left out.
    return p.mul_(log_p).nansum(-1).neg_().add_(nan_if_nan)


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
