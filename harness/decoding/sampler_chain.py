"""Samplers applied to the rows of a step, for many strategies at once.

transformers' warpers each visit the whole vocabulary, and two of them sort it. What they keep is a few of
the likeliest tokens; so these are found once a step for all strategies (`logits.py`), and one call truncates
all distributions, each row with its own parameters. Where the top tokens do not decide what is kept, more of
them are looked at. What comes before the first truncation and is more than a temperature, or is not followed
by one, acts on the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from harness.config.decoding import SamplerName
from harness.decoding.candidates import INF, Candidates, Totals
from harness.decoding.logits import SHARED_TOP, Logits, joined
from harness.decoding.sampler_settings import PARAMETERS, SamplerSettings, Step
from harness.decoding.samplers import SAMPLERS, mix_excluded
from harness.decoding.top_tokens import TopTokens
from harness.decoding.upload import on_device

_TOP_COUNTS = (SHARED_TOP, 1024, 8192)
"""How many of the top tokens are looked at, one after the other, until they decide what is kept.

Of a vocabulary that is no larger all are looked at where the first do not decide.
"""

_MANY_ROWS = 128
"""Rows from which on half as many tokens are found first.

These decide most rows; to find more for all of them would take longer than to look again at the others.
"""

_TOP_COUNTS_OF_MANY = (SHARED_TOP // 2, 2 * SHARED_TOP, 1024, 8192)
"""The counts for so many rows."""

_NEEDS: Mapping[str, tuple[SamplerName, ...]] = {
    "log_total": (
        "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_a", "p_less", "mirostat", "tfs",
    ),
    "entropy": ("typical_p", "eta_cutoff"),
    "squares": ("p_less",),
    "deviation": ("top_n_sigma",),
}  # fmt: skip
"""Reductions of whole rows, and the truncations that need them where they are the first."""

_ON_EVERY_ROW = ("xtc", "adaptive_p")
"""Samplers that leave a note beside the logits, for all rows of a call."""


class TruncatedLogits(TopTokens):
    """The tokens that a truncation may have kept in each row; those it removed have the logit -inf."""

    def logits_of(self, tokens: Tensor) -> Tensor:
        """Return the (R, n) logits of (R, n) tokens; -inf where one was removed."""
        return self.values_of(tokens, self.logits)

    def values_of(self, tokens: Tensor, values: Tensor) -> Tensor:
        """Return the (R, n) entries of `values`, whose columns are the tokens; -inf of other tokens."""
        found, column = (self.tokens[:, None, :] == tokens[:, :, None]).max(-1)
        return values.gather(1, column).masked_fill(~found, -INF)


class Drawable(NamedTuple):
    """What rows are drawn from.

    Attributes:
        rows: which of the rows that were asked for.
        logits: (M, V) of the whole vocabulary, or of the tokens that may be left.
        before_adaptive: log-probabilities before adaptive_p, of the same tokens; None without it.
    """

    rows: list[int]
    logits: Logits | TruncatedLogits
    before_adaptive: Tensor | None

    def logprobs(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return (N,) log-probabilities of tokens in some rows, before adaptive_p where it acts."""
        values = self.before_adaptive
        left = self.logits.logits if isinstance(self.logits, TruncatedLogits) else self.logits.values
        if values is None:
            values = left - left.logsumexp(-1, keepdim=True)
        if isinstance(self.logits, TruncatedLogits):
            return self.logits.select(rows).values_of(tokens[:, None], values[rows])[:, 0]
        return values[rows, tokens]


class StateOfRows(NamedTuple):
    """Some of the rows of a call, (m,), and the values of their parameters by name, (m,) each."""

    rows: Sequence[int]
    values: Mapping[str, Tensor]


class SamplerChain:
    """The samplers of several strategies, ready for distributions of any of them together.

    The strategies' orders may differ: they are parts of a common one, in which a sampler may stand more than
    once, and acts each time in the rows of the strategies that have it then.
    """

    def __init__(self, strategies: Sequence[SamplerSettings], device: torch.device | str) -> None:
        self._strategies = strategies
        self._parameters = on_device([one.parameters for one in strategies], device)
        self._names, turns = common_order([one.steps for one in strategies])
        whole = [0 if one.cuts and one.divides_only else len(one.before_cuts) for one in strategies]
        self._on_all = [own[:count] for own, count in zip(turns, whole, strict=True)]
        self._divide_only = [not one.cuts and one.divides_only for one in strategies]
        self._on_top = [own[count:] for own, count in zip(turns, whole, strict=True)]

    def __call__(
        self, logits: Logits, which: Sequence[int], states: Sequence[StateOfRows] = ()
    ) -> list[Drawable]:
        """Apply the samplers to (M, V) logits; every row is in one of the results.

        Args:
            logits: a row a distribution.
            which: (M,) the indices of the rows' strategies.
            states: parameters that differ by text, of the rows that have any.
        """
        parameters = self._parameters[on_device(which, logits.device)]
        for rows, values in states:
            index = on_device(rows, logits.device)
            for name, column in values.items():
                parameters[index, PARAMETERS.index(name)] = column
        divided = [row for row, one in enumerate(which) if self._divide_only[one]]
        reshaped = [row for row, one in enumerate(which) if self._on_all[one] and not self._divide_only[one]]
        truncated = [row for row, one in enumerate(which) if self._strategies[one].cuts]
        found: list[Drawable] = []
        if divided:
            index = on_device(divided, logits.device)
            left = logits.select(index).divided(parameters[index, :1])
            found.append(Drawable(divided, left, None))
        parts = [(row, row) for row in truncated if not self._on_all[which[row]]]
        some = _Rows(parameters, which, [(logits, parts)])
        if reshaped:
            place = {row: at for at, row in enumerate(reshaped)}
            whole = self._whole(logits, parameters, which, reshaped)
            some.add(Logits(whole.logits), [(row, place[row]) for row in truncated if row in place])
            if done := [row for row in reshaped if not self._strategies[which[row]].cuts]:
                mix_excluded(whole)
                scores, before = whole.logits, whole.before_adaptive
                if len(done) < len(reshaped):
                    index = on_device([place[row] for row in done], logits.device)
                    scores, before = scores[index], None if before is None else before[index]
                found.append(Drawable(done, Logits(scores), before))
        return found + (self._truncated(some) if truncated else [])

    def _whole(
        self, logits: Logits, parameters: Tensor, which: Sequence[int], rows: Sequence[int]
    ) -> Candidates:
        """Apply to some rows what acts on the whole vocabulary: what comes before the first truncation."""
        if len(rows) < len(which):
            index = on_device(rows, logits.device)
            logits, parameters = logits.select(index), parameters[index]
        c = Candidates(logits.values, parameters, vocabulary=logits.vocab_size)
        self._apply(c, [self._on_all[which[row]] for row in rows])
        return c

    def _truncated(self, some: _Rows) -> list[Drawable]:
        """Apply the samplers from the first truncation on to the top tokens, and a temperature before it."""
        totals = self._totals(some)
        found: list[Drawable] = []
        rows = list(range(len(some.rows)))
        for count in _levels(some.vocab_size, len(rows)):
            logits, parameters, sums = some.logits(rows), some.parameters, totals
            if len(rows) < len(some.which):
                index = on_device(rows, parameters.device)
                parameters, sums = parameters[index], Totals(*(column[index] for column in totals))
            top = logits.top(count)
            c = Candidates(top.logits, parameters, vocabulary=some.vocab_size, totals=sums)
            self._apply(c, [self._on_top[some.which[row]] for row in rows])
            mix_excluded(c)
            decided, width = c.decided()
            done = [at for at, yes in enumerate(decided) if yes]
            if not done:
                continue
            kept, before = TruncatedLogits(top.tokens[:, :width], c.logits[:, :width]), c.before_adaptive
            before = None if before is None else before[:, :width]
            if len(done) < len(rows):
                index = on_device(done, parameters.device)
                kept = kept.select(index)
                before = None if before is None else before[index]
            found.append(Drawable([some.rows[rows[at]] for at in done], kept, before))
            rows = [row for row, yes in zip(rows, decided, strict=True) if not yes]
            if not rows:
                break
        return found

    def _apply(self, c: Candidates, turns: Sequence[Sequence[int]]) -> None:
        """Let the samplers act one after the other; `turns` are the places of those of each row."""
        rows_of: dict[int, list[int]] = {}
        for row, own in enumerate(turns):
            for place in own:
                rows_of.setdefault(place, []).append(row)
        for place in sorted(rows_of):
            name, rows = self._names[place], rows_of[place]
            c.act(SAMPLERS[name], rows, together=name in _ON_EVERY_ROW)

    def _totals(self, some: _Rows) -> Totals:
        """Return what the first truncations need of whole rows; 0 where one needs nothing.

        At the temperature, where that is applied to the top tokens.
        """
        strategies = [self._strategies[one] for one in some.which]
        zeros = some.parameters.new_zeros((len(strategies), 1))
        divided = {row for row, one in enumerate(strategies) if one.divides_only and one.before_cuts}
        needs = {
            name: [row for row, one in enumerate(strategies) if one.cuts[0] in cuts]
            for name, cuts in _NEEDS.items()
        }
        temperatures = some.parameters[:, :1]
        columns = {}
        for name, rows in needs.items():
            column = zeros.to(some.dtype)
            own = [row for row in rows if row not in divided]
            if own:
                index = on_device(own, zeros.device)
                column = column.index_copy(0, index, getattr(some.logits(own), name)())
            if rest := [row for row in rows if row in divided]:
                index = on_device(rest, zeros.device)
                if name == "log_total":
                    value = some.logits(rest).log_total_at(temperatures[index])
                else:
                    value = getattr(Logits(some.logits(rest).values / temperatures[index]), name)()
                column = column.index_copy(0, index, value)
            columns[name] = column
        return Totals(**columns)


class _Rows:
    """Rows that truncations act on: their logits, parameters and strategies; those of one part adjoin."""

    def __init__(
        self,
        parameters: Tensor,
        which: Sequence[int],
        parts: Sequence[tuple[Logits, Sequence[tuple[int, int]]]],
    ) -> None:
        """Take parameters and strategies of all rows; `parts` are as in `add`."""
        self._all_parameters, self._all_which = parameters, which
        self._parts: list[tuple[Logits, list[int]]] = []
        self.rows: list[int] = []
        self.vocab_size, self.dtype = parts[0][0].vocab_size, parts[0][0].dtype
        for logits, rows in parts:
            self.add(logits, rows)

    def add(self, logits: Logits, rows: Sequence[tuple[int, int]]) -> None:
        """Add rows, each with its place in these logits."""
        if rows:
            self._parts.append((logits, [place for _, place in rows]))
            self.rows += [row for row, _ in rows]

    @cached_property
    def which(self) -> list[int]:
        """The rows' strategies."""
        return [self._all_which[row] for row in self.rows]

    @cached_property
    def parameters(self) -> Tensor:
        """The rows' parameters."""
        return self._all_parameters[on_device(self.rows, self._all_parameters.device)]

    def logits(self, rows: Sequence[int]) -> Logits:
        """Return some of these rows, in ascending order."""
        chosen: list[Logits] = []
        start = 0
        for logits, places in self._parts:
            own = [places[row - start] for row in rows if start <= row < start + len(places)]
            start += len(places)
            if own:
                chosen.append(logits.select(on_device(own, logits.device)))
        return joined(chosen)


def _levels(vocabulary: int, rows: int) -> list[int]:
    """Return how many of the top tokens of rows are looked at, one after the other."""
    few: tuple[int, ...] = _TOP_COUNTS if rows < _MANY_ROWS else _TOP_COUNTS_OF_MANY
    if vocabulary <= few[-1]:
        few = few[:1]
    return [*(count for count in few if count < vocabulary), vocabulary]


def common_order(orders: Sequence[Sequence[Step]]) -> tuple[list[Step], list[list[int]]]:
    """Return an order in which all of these are contained, and the places of each of them in it.

    A name stands in it more than once where the orders contradict each other.
    """
    used = {name for order in orders for name in order}
    places: list[tuple[Step, set[int]]] = [(name, set()) for name in SAMPLERS if name in used]
    for number, order in enumerate(orders):
        start = 0
        for name in order:
            later = (place for place in range(start, len(places)) if places[place][0] == name)
            place = next(later, None)
            if place is None:
                place = start
                places.insert(place, (name, set()))
            places[place][1].add(number)
            start = place + 1
    places = [(name, strategies) for name, strategies in places if strategies]
    turns = [[at for at, (_, some) in enumerate(places) if number in some] for number in range(len(orders))]
    return [name for name, _ in places], turns


@lru_cache(maxsize=64)
def sampler_chain(strategies: tuple[SamplerSettings, ...], device: str) -> SamplerChain:
    """Return the samplers of some strategies, made once: they do not change from step to step."""
    return SamplerChain(strategies, device)
