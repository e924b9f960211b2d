"""Samplers applied to the rows of a step, for many strategies at once.

transformers' warpers each visit the whole vocabulary, and two of them sort it. What they keep is a few of
the likeliest tokens; so these are found once a step for all strategies (`logits.py`), and one call truncates
all distributions, each row with its own parameters. Where the top tokens do not decide what is kept, more of
them are looked at. What comes before the first truncation and is more than a temperature, or is not followed
by one, acts on the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from harness.config.decoding import SamplerName
from harness.decoding.candidates import INF, Candidates, Totals, totals_of
from harness.decoding.logits import SHARED_TOP, Logits, TopTokens
from harness.decoding.sampler_settings import PARAMETERS, SamplerSettings
from harness.decoding.samplers import SAMPLERS, mix_excluded

_TOP_COUNTS = (SHARED_TOP, 1024, 8192)
"""How many of the top tokens are looked at, one after the other, until they decide what is kept."""

_NEED_TOTAL = ("top_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_a", "p_less", "mirostat")
"""Truncations that compare probabilities, which needs the sum over all tokens."""

_NEED_ENTROPY = ("typical_p", "eta_cutoff")


class TruncatedLogits(TopTokens):
    """The tokens that a truncation may have kept in each row; those it removed have the logit -inf."""

    def logits_of(self, tokens: Tensor) -> Tensor:
        """Return the (R, n) logits of (R, n) tokens; -inf where one was removed."""
        return self.values_of(tokens, self.logits)

    def values_of(self, tokens: Tensor, values: Tensor) -> Tensor:
        """Return the (R, n) entries of `values`, whose columns are the tokens; -inf of other tokens."""
        found, column = (self.tokens[:, None, :] == tokens[:, :, None]).max(-1)
        return values.gather(1, column).masked_fill(~found, -INF)

    def trimmed(self) -> TruncatedLogits:
        """Return the same without the last columns that no row keeps."""
        used = (self.logits > -INF).any(0).nonzero()[:, 0]
        width = int(used[-1]) + 1 if len(used) else 1
        return TruncatedLogits(self.tokens[:, :width], self.logits[:, :width])


class Drawable(NamedTuple):
    """What rows are drawn from.

    Attributes:
        rows: which of the rows that were asked for.
        logits: (M, V) where nothing was removed, else the tokens that are left.
        before_adaptive: log-probabilities before adaptive_p, of the same tokens; None without it.
    """

    rows: list[int]
    logits: Tensor | TruncatedLogits
    before_adaptive: Tensor | None

    def logprobs(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return (N,) log-probabilities of tokens in some rows, before adaptive_p where it acts."""
        values = self.before_adaptive
        left = self.logits.logits if isinstance(self.logits, TruncatedLogits) else self.logits
        if values is None:
            values = left - left.logsumexp(-1, keepdim=True)
        if isinstance(self.logits, TruncatedLogits):
            return self.logits.select(rows).values_of(tokens[:, None], values[rows])[:, 0]
        return values[rows, tokens]


class SamplerChain:
    """The samplers of several strategies with one order, ready for distributions of any of them together."""

    def __init__(self, strategies: Sequence[SamplerSettings], device: torch.device | str) -> None:
        self._strategies = strategies
        self._parameters = torch.tensor([one.parameters for one in strategies], device=device)
        used = dict.fromkeys(name for one in strategies for name in one.order)
        self._active = {
            name: torch.tensor([[name in one.order] for one in strategies], device=device) for name in used
        }
        self._order = _merged([one.order for one in strategies])
        self._uses = frozenset(use for one in strategies for use in one.uses)
        firsts = [one.cuts[0] for one in strategies if one.cuts]
        self._needs_total = any(name in _NEED_TOTAL for name in firsts)
        self._needs = {
            "entropy": any(name in _NEED_ENTROPY for name in firsts),
            "squares": "p_less" in firsts,
            "deviation": "top_n_sigma" in firsts,
        }

    def __call__(
        self, logits: Logits, which: Sequence[int], states: Mapping[str, Tensor] | None = None
    ) -> list[Drawable]:
        """Apply the samplers to (M, V) logits; every row is in one of the results.

        Args:
            logits: a row a distribution.
            which: (M,) the indices of the rows' strategies.
            states: parameters that differ by row, (M,) each, by name.
        """
        index = torch.tensor(which, device=logits.device)
        parameters = self._parameters[index]
        for name, values in (states or {}).items():
            parameters[:, PARAMETERS.index(name)] = values
        active = {name: mask[index] for name, mask in self._active.items()}
        rows_of: dict[str, list[int]] = {"top": [], "reshaped": [], "whole": []}
        for row, one in enumerate(which):
            settings = self._strategies[one]
            kind = "whole" if not settings.cuts else "top" if settings.divides_only else "reshaped"
            rows_of[kind].append(row)
        found: list[Drawable] = []
        for kind, rows in rows_of.items():
            if not rows:
                continue
            some = _Rows(logits, parameters, active, rows, len(which))
            if kind == "top":
                found += self._truncated(some, which, tempered=True)
                continue
            whole = self._on_whole(some, which)
            if kind == "whole":
                mix_excluded(whole)
                found.append(Drawable(rows, whole.logits, whole.before_adaptive))
            else:
                some.logits = Logits(whole.logits)
                found += self._truncated(some, which, tempered=False)
        return found

    def _on_whole(self, some: _Rows, which: Sequence[int]) -> Candidates:
        """Apply what comes before the first truncation to the whole vocabulary."""
        before = [set(self._strategies[which[row]].before_cuts) for row in some.rows]
        device = some.logits.device
        active = {
            name: torch.tensor([[name in names] for names in before], device=device) for name in self._order
        }
        c = Candidates(
            some.logits.values, some.parameters, active, uses=self._uses, vocabulary=some.logits.vocab_size
        )
        for name in self._order:
            if any(name in names for names in before):
                SAMPLERS[name](c)
        return c

    def _truncated(self, some: _Rows, which: Sequence[int], *, tempered: bool) -> list[Drawable]:
        """Apply the samplers to the top tokens; all but those before the first cut, if not `tempered`.

        `tempered` rows have nothing but a temperature before it, which is applied to the top tokens here.
        """
        done_before = [() if tempered else self._strategies[which[row]].before_cuts for row in some.rows]
        active = dict(some.active)
        for name in dict.fromkeys(name for names in done_before for name in names):
            left = [[name not in names] for names in done_before]
            active[name] = active[name] & torch.tensor(left, device=some.logits.device)
        strategies = [which[row] for row in some.rows]
        to_come = [
            {name for name in self._strategies[one].order if name not in done}
            for one, done in zip(strategies, done_before, strict=True)
        ]
        divided = [tempered and self._strategies[one].before_cuts != () for one in strategies]
        totals = self._totals(some, divided)
        found: list[Drawable] = []
        vocabulary, rows = some.logits.vocab_size, list(range(len(some.rows)))
        for count in [*(n for n in _TOP_COUNTS if n < vocabulary), vocabulary]:
            chosen = slice(None)
            logits = some.logits
            if len(rows) < len(some.rows):
                chosen = torch.tensor(rows, device=logits.device)  # type: ignore[assignment]
                logits = logits.select(chosen)  # type: ignore[arg-type]
            top = logits.top(count)
            c = Candidates(
                top.logits,
                some.parameters[chosen],
                {name: mask[chosen] for name, mask in active.items()},
                uses=self._uses,
                vocabulary=vocabulary,
                totals=Totals(*(column[chosen] for column in totals)),
            )
            used = set().union(*(to_come[row] for row in rows))
            for name in (name for name in self._order if name in used):
                SAMPLERS[name](c)
            mix_excluded(c)
            # Here the host waits for the device, usually once a step.
            decided = c.is_decided()[:, 0].tolist()
            done = [i for i, yes in enumerate(decided) if yes]
            if not done:
                continue
            kept, before = TruncatedLogits(top.tokens, c.logits), c.before_adaptive
            if len(done) < len(rows):
                index = torch.tensor(done, device=logits.device)
                kept = kept.select(index)
                before = None if before is None else before[index]
            if count != SHARED_TOP and before is None:
                kept = kept.trimmed()
            found.append(Drawable([some.rows[rows[i]] for i in done], kept, before))
            rows = [row for row, yes in zip(rows, decided, strict=True) if not yes]
            if not rows:
                break
        return found

    def _totals(self, some: _Rows, divided: Sequence[bool]) -> Totals:
        """Return the totals of whole rows, at the temperature in the rows that are divided by one."""
        logits = some.logits
        zeros = some.parameters.new_zeros((len(some.rows), 1))
        if not self._needs_total:
            deviation = logits.deviation() if self._needs["deviation"] else zeros
            return Totals(zeros, zeros, zeros, self._divided(deviation, some, divided))
        totals = totals_of(logits, **self._needs)
        rows = [row for row, yes in enumerate(divided) if yes]
        if rows:
            index = torch.tensor(rows, device=logits.device)
            scaled = Logits(logits.select(index).values / some.parameters[index, :1])
            at_temperature = totals_of(scaled, **self._needs)
            totals = Totals(
                *(one.index_copy(0, index, new) for one, new in zip(totals, at_temperature, strict=True))
            )
        return totals

    def _divided(self, deviation: Tensor, some: _Rows, divided: Sequence[bool]) -> Tensor:
        """Return deviations of logits that are divided by the temperature, in the rows where they are."""
        mask = torch.tensor([[yes] for yes in divided], device=deviation.device)
        return torch.where(mask, deviation / some.parameters[:, :1], deviation)


class _Rows:
    """Some of the rows of a call: their logits, parameters and in which of them each sampler acts."""

    def __init__(
        self,
        logits: Logits,
        parameters: Tensor,
        active: Mapping[SamplerName, Tensor],
        rows: list[int],
        total: int,
    ) -> None:
        self.rows = rows
        self.logits, self.parameters, self.active = logits, parameters, active
        if len(rows) < total:
            index = torch.tensor(rows, device=logits.device)
            self.logits, self.parameters = logits.select(index), parameters[index]
            self.active = {name: mask[index] for name, mask in active.items()}


def _merged(orders: Sequence[Sequence[SamplerName]]) -> list[SamplerName]:
    """Return one order that contains all of these.

    Raises:
        ValueError: they contradict each other.
    """
    after: dict[SamplerName, set[SamplerName]] = {name: set() for order in orders for name in order}
    for order in orders:
        for earlier, later in pairwise(order):
            after[later].add(earlier)
    merged: list[SamplerName] = []
    while len(merged) < len(after):
        ready = [name for name in after if name not in merged and after[name] <= set(merged)]
        if not ready:
            raise ValueError("these strategies have contradicting orders of samplers")
        merged.append(ready[0])
    return merged


def by_order(strategies: Sequence[SamplerSettings]) -> list[list[int]]:
    """Return the indices of strategies in groups whose orders do not contradict each other."""
    groups: list[list[int]] = []
    for index, one in enumerate(strategies):
        for group in groups:
            try:
                _merged([*(strategies[i].order for i in group), one.order])
            except ValueError:
                continue
            group.append(index)
            break
        else:
            groups.append([index])
    return groups


@lru_cache(maxsize=64)
def sampler_chain(strategies: tuple[SamplerSettings, ...], device: str) -> SamplerChain:
    """Return the samplers of some strategies, made once: they do not change from step to step."""
    return SamplerChain(strategies, device)
