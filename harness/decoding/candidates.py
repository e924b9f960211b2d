"""The tokens of each row that may still be drawn, on their way through the samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.decoding.reductions import deviation_of
from harness.decoding.sampler_settings import PARAMETERS
from harness.decoding.upload import on_device

INF = float("inf")

_COLUMN = {name: column for column, name in enumerate(PARAMETERS)}


class Totals(NamedTuple):
    """What is known of whole rows of which only some tokens are looked at; (M, 1) each.

    Attributes:
        log_total: the log of the sum of exp(logits).
        entropy: nats.
        squares: the sum of squared probabilities.
        deviation: standard deviation of the logits above -inf.
    """

    log_total: Tensor
    entropy: Tensor
    squares: Tensor
    deviation: Tensor


class Candidates:
    """(M, n) logits of tokens that are left, -inf where one was removed.

    Either the whole vocabulary in the order of its ids, or the n likeliest tokens, likeliest first: then the
    others are left as well until a sampler has removed tokens of the row (`untouched`).

    Attributes:
        logits: changed by the samplers.
        acting: (M, 1) the rows in which the sampler acts whose turn it is; the others stay as they are.
        untouched: (M, 1) nothing was removed yet, and there are tokens beyond the n.
        vocabulary: number of tokens of the model.
        excluded: (M, n) what XTC leaves out in a share of the draws; None without it.
        before_adaptive: (M, n) log-probabilities before adaptive_p; None without it.
    """

    def __init__(
        self,
        logits: Tensor,
        parameters: Tensor,
        *,
        vocabulary: int,
        totals: Totals | None = None,
    ) -> None:
        """`parameters` are (M, len(PARAMETERS)); `totals` are those of the rows where n is partial."""
        self.logits = logits
        self.vocabulary = vocabulary
        self.excluded: Tensor | None = None
        self.before_adaptive: Tensor | None = None
        self._parameters, self._totals = parameters, totals
        self._rows: Any = slice(None)  # those of `totals` that these are
        self._own = False  # whether `logits` are no one else's, and may be written into
        partial = totals is not None and logits.shape[1] < vocabulary
        shape = (len(logits), 1)
        self._complete = not partial
        self.untouched = torch.full(shape, partial, device=logits.device)
        self._decided = torch.ones_like(self.untouched)
        self.acting = self._everywhere = _flags(True, len(logits), logits.device)

    def parameter(self, name: str) -> Tensor:
        """Return (M, 1), one parameter of each row."""
        column = _COLUMN[name]
        return self._parameters[:, column, None]

    def act(self, sampler: Callable[[Candidates], None], rows: Sequence[int], *, together: bool) -> None:
        """Let a sampler act in some rows.

        It sees these rows alone, unless they are most of them or it is to see all `together`.
        """
        every = len(self.logits)
        if len(rows) == every:
            self.acting = self._everywhere
            sampler(self)
            return
        adjoining = rows[-1] - rows[0] + 1 == len(rows)
        index: Any = slice(rows[0], rows[-1] + 1)
        if not adjoining:
            index = on_device(rows, self.logits.device)
        if together or 2 * len(rows) > every:
            self.acting = torch.zeros_like(self.untouched)
            self.acting[index] = True
            sampler(self)
            return
        some = copy(self)
        some.logits, some._parameters = self.logits[index], self._parameters[index]
        some.untouched, some._decided = self.untouched[index], self._decided[index]
        some.acting = some._everywhere = _flags(True, len(rows), self.logits.device)
        some._rows = index
        before = some.untouched
        sampler(some)
        if not self._own:
            self.logits, self._own = self.logits.clone(), True
        self.logits[index] = some.logits
        if some.untouched is not before:  # it removes tokens
            self.untouched[index], self._decided[index] = some.untouched, some._decided

    def best(self) -> Tensor:
        """Return (M, 1), the largest logit."""
        return self.logits.amax(-1, keepdim=True)

    def log_p(self) -> Tensor:
        """Return (M, n) log-probabilities among all tokens that are left."""
        among = self.logits.logsumexp(-1, keepdim=True)
        return self.logits - self._whole("log_total", among)

    def entropy(self, log_p: Tensor) -> Tensor:
        """Return (M, 1) nats, of all tokens that are left."""
        among = -(log_p.exp() * log_p).nansum(-1, keepdim=True)
        return self._whole("entropy", among)

    def squares(self, log_p: Tensor) -> Tensor:
        """Return (M, 1), the sum of the squared probabilities of all tokens that are left."""
        among = (2 * log_p).exp().sum(-1, keepdim=True)
        return self._whole("squares", among)

    def deviation(self) -> Tensor:
        """Return (M, 1), the population's standard deviation of the logits of all tokens that are left."""
        among = deviation_of(self.logits)
        return self._whole("deviation", among)

    def count(self) -> Tensor:
        """Return (M, 1), how many tokens are left."""
        among = (self.logits > -INF).sum(-1, keepdim=True)
        return torch.where(self.untouched, self.vocabulary, among)

    def decided(self) -> tuple[list[bool], int]:
        """Return of which rows nothing is left beyond the n tokens, and how many columns those use.

        Here the host waits for the device, usually once a step.
        """
        rows = self._decided & ~self.untouched | self._complete
        used = ((self.logits > -INF) & rows).any(0)
        flags = torch.cat([rows[:, 0], used]).tolist()
        columns = flags[len(self.logits) :]
        width = len(columns) - columns[::-1].index(True) if True in columns else 1
        return flags[: len(self.logits)], width

    def keep(self, kept: Tensor, decides: Tensor | None = None) -> None:
        """Remove what is not in `kept`.

        The n tokens decide what is kept where the last of them is removed: those beyond are less likely.
        Where that does not follow, `decides` (M, 1) says.
        """
        decides = ~kept[:, -1:] if decides is None else decides
        if self.acting is self._everywhere:
            self._decided = self._decided & (decides | ~self.untouched)
            self.logits, self._own = self.logits.masked_fill(~kept, -INF), True
            self.untouched = _flags(False, len(kept), kept.device)
            return
        self._decided = self._decided & (decides | ~(self.untouched & self.acting))
        self.logits, self._own = self.logits.masked_fill(~kept & self.acting, -INF), True
        self.untouched = self.untouched & ~self.acting

    def divide(self, divisor: Tensor) -> None:
        """Divide the logits by (M, 1) positive numbers."""
        logits = self.logits / divisor
        if self.acting is self._everywhere:  # what was removed stays so
            self.logits, self._own = logits, True
        else:
            self.change(logits)

    def change(self, logits: Tensor) -> None:
        """Take new logits; removed tokens stay removed."""
        changes = self.acting & (self.logits > -INF)
        self.logits, self._own = torch.where(changes, logits, self.logits), True

    def _whole(self, name: str, among: Tensor) -> Tensor:
        """Return a total of the tokens that are left: `among` the n alone once some were removed."""
        if self._totals is None:
            return among
        total: Tensor = getattr(self._totals, name)
        return torch.where(self.untouched, total[self._rows], among)


@lru_cache(maxsize=256)
def _flags(value: bool, rows: int, device: torch.device) -> Tensor:
    """Return (rows, 1) of one value, made once: nothing else is ever written into them."""
    with torch.inference_mode(False):
        return torch.full((rows, 1), value, device=device)
