"""Logits of one step, and the reductions that the recorder and several strategies share: computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.decoding.reductions import (
    Reductions,
    Spread,
    joined_columns,
    log_probs,
    log_totals,
    reductions,
    reductions_and_spread,
)
from harness.decoding.row_blocks import BlockMemory, block_rows, first_argmax, group_maxima
from harness.decoding.top_tokens import TopTokens, top_tokens

SHARED_TOP = 128
"""Top tokens that are found for all rows at once; more only for the rows that need more."""


class Logits:
    """(R, V) float32 logits, -inf where a token was removed, with reductions that are computed once."""

    def __init__(self, values: Tensor) -> None:
        """Take the logits; nothing is computed of them yet."""
        self._values = values
        self._reductions: Reductions | None = None
        self._spread: Spread | None = None
        self._maxima: Tensor | None = None
        self._top: dict[int, TopTokens] = {}

    def __len__(self) -> int:
        return len(self._values)

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

    def maxima(self) -> Tensor:
        """Return the largest logits of groups of tokens, as `group_maxima` does."""
        if self._maxima is None:
            self._maxima = group_maxima(self.values)
        return self._maxima

    def top(self, count: int) -> TopTokens:
        """Return the `count` likeliest tokens of each row; ties are broken arbitrarily."""
        if count not in self._top:
            more = next((top for found, top in self._top.items() if found > count), None)
            if more is not None:
                return TopTokens(more.tokens[:, :count], more.logits[:, :count])
            self._top[count] = top_tokens(self.values, self.maxima(), count)
        return self._top[count]

    def widest_top(self) -> TopTokens | None:
        """Return the most of the likeliest tokens that were asked for so far; None without any."""
        return self._top[max(self._top)] if self._top else None

    def best(self) -> Tensor:
        """Return (R, 1), the largest logits."""
        return self.maxima().amax(-1, keepdim=True) if self._reductions is None else self._reductions.best

    def reductions(self) -> Reductions:
        """Return what is known of the whole rows."""
        if self._reductions is None:
            self._reductions = reductions(self.centred(), self.best())
        return self._reductions

    def known_mean(self) -> Tensor | None:
        """Return (R, 1), the mean of the logits less the largest; None where it was not computed yet."""
        return None if self._reductions is None else self._reductions.mean

    def spread(self) -> Spread:
        """Return what is known besides, computed together with the reductions."""
        if self._spread is None:
            self._reductions, self._spread = reductions_and_spread(self.values, self.centred(), self.best())
        return self._spread

    def log_total(self) -> Tensor:
        """Return (R, 1), the log of the sum of exp(logits)."""
        return self.reductions().best + self.reductions().log_rest

    def log_total_at(self, temperatures: Tensor) -> Tensor:
        """Return (R, 1), the log of the sum of exp(logits / temperature), at (R, 1) positive ones."""
        divided = self.divided(temperatures)
        return log_totals(divided.centred(), divided.best())

    def entropy(self) -> Tensor:
        """Return (R, 1) nats, the entropy of softmax(logits)."""
        return self.reductions().entropy

    def squares(self) -> Tensor:
        """Return (R, 1), the sum of the squares of softmax(logits)."""
        return self.spread().squares

    def deviation(self) -> Tensor:
        """Return (R, 1), the population's standard deviation of the logits above -inf."""
        return self.spread().deviation

    def log_p(self) -> Tensor:
        """Return (R, V) log-probabilities, which nothing keeps."""
        return log_probs(self.values, self.reductions())

    def first_best(self, rows: Tensor) -> Tensor:
        """Return (N,) int64, the likeliest token of some rows (N,), the first of equal ones."""
        return first_argmax(self.values, self.maxima(), rows)

    def logprobs(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return (N, n) log-probabilities of tokens (N, n) in some rows (N,)."""
        return log_probs(self.at(rows[:, None], tokens), self.reductions().select(rows))

    def at(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits of tokens in rows, of the shape to which these broadcast."""
        return self.values[rows, tokens]

    def centred(self) -> Iterator[Tensor]:
        """Return the rows less the largest logit of each, a few at a time.

        They may be written over, and are lost with the next ones.
        """
        memory = BlockMemory()
        for block, best in zip(*self._blocks(self.values, self.best()), strict=True):
            yield torch.sub(block, best, out=memory.take(block.shape, block))

    def _blocks(self, *of_rows: Tensor) -> list[tuple[Tensor, ...]]:
        """Return what belongs to the rows, a few of these at a time."""
        return [one.split(block_rows(self._values)) for one in of_rows]

    def divided(self, divisors: Tensor) -> Logits:
        """Return the logits divided by (R, 1) positive numbers: only where their values are used."""
        return _DividedLogits(self, divisors)

    def select(self, index: Tensor) -> Logits:
        """Return some rows (M,), which share the reductions of all rows; a row may be repeated."""
        return _SelectedLogits(self, index)


class _SelectedLogits(Logits):
    """Rows of other logits, copied only when their values are used."""

    def __init__(self, source: Logits, index: Tensor) -> None:
        super().__init__(source._values)
        self._source, self._index = source, index
        self._selected: Tensor | None = None

    def __len__(self) -> int:
        return len(self._index)

    @property
    def values(self) -> Tensor:
        if self._selected is None:
            self._selected = self._source.values.index_select(0, self._index)
        return self._selected

    def top(self, count: int) -> TopTokens:
        if count <= SHARED_TOP:
            return self._source.top(count).select(self._index)
        return super().top(count)

    def maxima(self) -> Tensor:
        return self._source.maxima().index_select(0, self._index)

    def best(self) -> Tensor:
        return self._source.best()[self._index]

    def reductions(self) -> Reductions:
        return self._source.reductions().select(self._index)

    def known_mean(self) -> Tensor | None:
        mean = self._source.known_mean()
        return None if mean is None else mean[self._index]

    def spread(self) -> Spread:
        return self._source.spread().select(self._index)

    def at(self, rows: Tensor, tokens: Tensor) -> Tensor:
        return self._source.at(self._index[rows], tokens)

    def centred(self) -> Iterator[Tensor]:
        if self._selected is not None:
            yield from super().centred()
            return
        memory, values = BlockMemory(), self._source.values
        for index, best in zip(*self._blocks(self._index, self.best()), strict=True):
            block = memory.take((len(index), self.vocab_size), values)
            yield torch.index_select(values, 0, index, out=block).sub_(best)

    def select(self, index: Tensor) -> Logits:
        return _SelectedLogits(self._source, self._index[index])


class _DividedLogits(Logits):
    """Other logits divided by positive numbers: division keeps their order, and so the largest ones."""

    def __init__(self, source: Logits, divisors: Tensor) -> None:
        super().__init__(source._values)
        self._source, self._divisors = source, divisors
        self._divided: Tensor | None = None

    def __len__(self) -> int:
        return len(self._divisors)

    @property
    def values(self) -> Tensor:
        if self._divided is None:
            self._divided = self._source.values / self._divisors
        return self._divided

    def maxima(self) -> Tensor:
        return self._source.maxima() / self._divisors

    def top(self, count: int) -> TopTokens:
        top = self._source.top(count)
        return TopTokens(top.tokens, top.logits / self._divisors)

    def best(self) -> Tensor:
        return self._source.best() / self._divisors

    def at(self, rows: Tensor, tokens: Tensor) -> Tensor:
        return self._source.at(rows, tokens) / self._divisors[rows, 0]

    def reductions(self) -> Reductions:
        if self._reductions is None:
            mean = self._source.known_mean()
            mean = None if mean is None else mean / self._divisors
            self._reductions = reductions(self.centred(), self.best(), mean)
        return self._reductions

    def centred(self) -> Iterator[Tensor]:
        blocks = zip(self._source.centred(), *self._blocks(self._divisors), strict=True)
        return (block.div_(divisors) for block, divisors in blocks)


class _JoinedLogits(Logits):
    """The rows of several logits, whose values are joined only when they are used."""

    def __init__(self, parts: Sequence[Logits]) -> None:
        super().__init__(parts[0]._values)
        self._parts = parts
        self._joined: Tensor | None = None

    def __len__(self) -> int:
        return sum(map(len, self._parts))

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

    def maxima(self) -> Tensor:
        if self._maxima is None:
            self._maxima = torch.cat([part.maxima() for part in self._parts])
        return self._maxima

    def best(self) -> Tensor:
        return torch.cat([part.best() for part in self._parts])

    def reductions(self) -> Reductions:
        if self._reductions is None:
            self._reductions = Reductions(torch.cat([part.reductions().columns for part in self._parts]))
        return self._reductions

    def known_mean(self) -> Tensor | None:
        means = [part.known_mean() for part in self._parts]
        known = [mean for mean in means if mean is not None]
        return torch.cat(known) if len(known) == len(means) else None

    def spread(self) -> Spread:
        if self._spread is None:
            self._spread = Spread(*joined_columns([part.spread() for part in self._parts]))
        return self._spread


def joined(parts: Sequence[Logits]) -> Logits:
    """Return the rows of several logits, one after the other; what is known of the parts is kept."""
    return parts[0] if len(parts) == 1 else _JoinedLogits(parts)
