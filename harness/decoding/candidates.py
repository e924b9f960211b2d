"""The tokens of each row that may still be drawn, on their way through the samplers."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

import torch
from torch import Tensor

from harness.config.decoding import SamplerName
from harness.decoding.logits import Logits, deviation_of
from harness.decoding.sampler_settings import PARAMETERS

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
        untouched: (M, 1) nothing was removed yet, and there are tokens beyond the n.
        vocabulary: number of tokens of the model.
        uses: what some of the rows need and others would be slowed down by (`SamplerSettings.uses`).
        excluded: (M, n) what XTC leaves out in a share of the draws; None without it.
        before_adaptive: (M, n) log-probabilities before adaptive_p; None without it.
    """

    def __init__(
        self,
        logits: Tensor,
        parameters: Tensor,
        active: Mapping[SamplerName, Tensor],
        *,
        uses: Set[str],
        vocabulary: int,
        totals: Totals | None = None,
    ) -> None:
        """`parameters` are (M, len(PARAMETERS)), `active` (M, 1) by sampler; `totals` where n is partial."""
        self.logits = logits
        self.vocabulary, self.uses = vocabulary, uses
        self.excluded: Tensor | None = None
        self.before_adaptive: Tensor | None = None
        self._parameters, self._active, self._totals = parameters, active, totals
        partial = totals is not None and logits.shape[1] < vocabulary
        shape = (len(logits), 1)
        self._complete = not partial
        self.untouched = torch.full(shape, partial, device=logits.device)
        self._decided = torch.ones_like(self.untouched)

    def parameter(self, name: str) -> Tensor:
        """Return (M, 1), one parameter of each row."""
        column = _COLUMN[name]
        return self._parameters[:, column, None]

    def active(self, sampler: SamplerName) -> Tensor:
        """Return (M, 1) bool, the rows in which a sampler acts."""
        return self._active[sampler]

    def best(self) -> Tensor:
        """Return (M, 1), the largest logit."""
        return self.logits.amax(-1, keepdim=True)

    def log_p(self) -> Tensor:
        """Return (M, n) log-probabilities among all tokens that are left."""
        among = self.logits.logsumexp(-1, keepdim=True)
        return self.logits - (among if self._totals is None else self._whole(self._totals.log_total, among))

    def entropy(self, log_p: Tensor) -> Tensor:
        """Return (M, 1) nats, of all tokens that are left."""
        among = -(log_p.exp() * log_p).nansum(-1, keepdim=True)
        return among if self._totals is None else self._whole(self._totals.entropy, among)

    def squares(self, log_p: Tensor) -> Tensor:
        """Return (M, 1), the sum of the squared probabilities of all tokens that are left."""
        among = (2 * log_p).exp().sum(-1, keepdim=True)
        return among if self._totals is None else self._whole(self._totals.squares, among)

    def deviation(self) -> Tensor:
        """Return (M, 1), the population's standard deviation of the logits of all tokens that are left."""
        among = deviation_of(self.logits)
        return among if self._totals is None else self._whole(self._totals.deviation, among)

    def count(self) -> Tensor:
        """Return (M, 1), how many tokens are left."""
        among = (self.logits > -INF).sum(-1, keepdim=True)
        return torch.where(self.untouched, self.vocabulary, among)

    def is_decided(self) -> Tensor:
        """Return (M, 1), whether nothing is left beyond the n tokens."""
        return self._decided & ~self.untouched | self._complete

    def keep(self, sampler: SamplerName, kept: Tensor, decides: Tensor | None = None) -> None:
        """Remove what is not in `kept`, in the rows in which this sampler acts.

        The n tokens decide what is kept where the last of them is removed: those beyond are less likely.
        Where that does not follow, `decides` (M, 1) says.
        """
        active = self._active[sampler]
        decides = ~kept[:, -1:] if decides is None else decides
        self._decided &= decides | ~(self.untouched & active)
        self.logits = self.logits.masked_fill(~kept & active, -INF)
        self.untouched = self.untouched & ~active

    def change(self, sampler: SamplerName, logits: Tensor) -> None:
        """Take new logits in the rows in which this sampler acts; removed tokens stay removed."""
        changes = self._active[sampler] & (self.logits > -INF)
        self.logits = torch.where(changes, logits, self.logits)

    def _whole(self, total: Tensor, among: Tensor) -> Tensor:
        return torch.where(self.untouched, total, among)


def totals_of(logits: Logits, *, entropy: bool, squares: bool, deviation: bool) -> Totals:
    """Return the totals of whole rows; those that are not asked for are 0."""
    log_total = logits.log_total()
    nothing = torch.zeros_like(log_total)
    return Totals(
        log_total,
        logits.entropy() if entropy else nothing,
        logits.squares() if squares else nothing,
        logits.deviation() if deviation else nothing,
    )
