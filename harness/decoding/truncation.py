"""What truncations leave of the vocabulary, found among its likeliest tokens, for many strategies at once.

transformers' warpers each go through the whole vocabulary, and two of them sort it. What they leave is a few
of the likeliest tokens; so these are found once a step for all strategies (`scores.py`), and the truncations
look at them alone: one call for all distributions that any strategy cuts, each with its own numbers. Each
keeps just what the stock warper keeps, up to the rounding of a sum at its border. Where the first tokens do
not settle that, more of them are looked at, and in the end all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.generation import logits_process as stock

from harness.decoding.scores import NEAR, Scores

_LOOKS = (NEAR, 1024, 8192)
"""How many of the likeliest tokens are looked at, until they settle it."""

_INF = float("inf")


class Kept(NamedTuple):
    """The tokens that are left in each row; those that are not have the score -inf.

    Attributes:
        tokens: (R, K) int64, likeliest first; none twice.
        scores: (R, K) theirs.
    """

    tokens: Tensor
    scores: Tensor

    def of_rows(self, index: Tensor) -> Kept:
        """What is left in some rows."""
        return Kept(self.tokens[index], self.scores[index])

    def scores_of(self, tokens: Tensor) -> Tensor:
        """(R, n) the scores of (R, n) tokens; -inf where one is not left."""
        found, place = (self.tokens[:, None, :] == tokens[:, :, None]).max(-1)
        return self.scores.gather(1, place).masked_fill(~found, -_INF)

    def trimmed(self) -> Kept:
        """The same without the last tokens, as many as no row keeps."""
        used = (self.scores > -_INF).any(0).nonzero()[:, 0]
        width = int(used[-1]) + 1 if len(used) else 1
        return Kept(self.tokens[:, :width], self.scores[:, :width])


@dataclass(frozen=True)
class Cuts:
    """The warpers that end a strategy's list, in `generate`'s order; what does nothing is what is here."""

    temperature: float = 1.0
    top_k: float = _INF
    top_p: float = _INF
    min_p: float = 0.0
    typical_p: float = _INF
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0

    def numbers(self) -> tuple[float, ...]:
        """All of them, in their order."""
        return (
            self.temperature, self.top_k, self.top_p, self.min_p, self.typical_p, self.epsilon_cutoff,
            self.eta_cutoff,
        )  # fmt: skip

    def uses(self) -> tuple[bool, ...]:
        """Which of them do something."""
        return tuple(mine != none for mine, none in zip(self.numbers(), _NOTHING, strict=True))

    @property
    def asks_for_mass(self) -> bool:
        """Whether the first cut looks at probabilities, and so at the mass of all tokens."""
        first = next((kind for kind in _CUTS if self.uses()[kind]), None)
        return first in (_TOP_P, _TYPICAL, _EPSILON, _ETA)


_NOTHING = Cuts().numbers()
_TEMPERATURE, _TOP_K, _TOP_P, _MIN_P, _TYPICAL, _EPSILON, _ETA = range(7)
_KINDS: dict[type, tuple[int, str, str]] = {
    stock.TemperatureLogitsWarper: (_TEMPERATURE, "temperature", "temperature"),
    stock.TopKLogitsWarper: (_TOP_K, "top_k", "top_k"),
    stock.TopPLogitsWarper: (_TOP_P, "top_p", "top_p"),
    stock.MinPLogitsWarper: (_MIN_P, "min_p", "min_p"),
    stock.TypicalLogitsWarper: (_TYPICAL, "typical_p", "mass"),
    stock.EpsilonLogitsWarper: (_EPSILON, "epsilon_cutoff", "epsilon"),
    stock.EtaLogitsWarper: (_ETA, "eta_cutoff", "epsilon"),
}
"""Of each stock warper its place in the order, the field of `Cuts`, and its own attribute."""


def cuts_of(processors: Sequence[Any]) -> tuple[Cuts | None, int]:
    """What the warpers at the end of a list cut.

    Returns:
        The cuts and how many processors they stand for; None and 0 where none of them truncates.
    """
    found: dict[str, float] = {}
    least = len(_KINDS)
    for processor in reversed(processors):
        place, field, attribute = _KINDS.get(type(processor), (least, "", ""))
        if place >= least or not _plain(processor):
            break
        least = place
        found[field] = float(getattr(processor, attribute))
    return (Cuts(**found), len(found)) if set(found) - {"temperature"} else (None, 0)


def _plain(processor: Any) -> bool:
    return (
        getattr(processor, "min_tokens_to_keep", 1) == 1
        and getattr(processor, "filter_value", -_INF) == -_INF
    )


class Truncations:
    """The cuts of some strategies, ready to act on distributions of any of them together."""

    def __init__(self, cuts: Sequence[Cuts], device: torch.device | str) -> None:
        self._cuts = cuts
        self._numbers = torch.tensor([one.numbers() for one in cuts], device=device)
        self._uses = torch.tensor([one.uses() for one in cuts], device=device)
        self._used = [any(column) for column in zip(*(one.uses() for one in cuts), strict=True)]

    def __call__(self, scores: Scores, which: Sequence[int]) -> list[tuple[list[int], Kept]]:
        """What is left of (M, V) scores.

        Args:
            scores: a row for each distribution.
            which: (M,) the strategy that cuts it, an index into `cuts`.

        Returns:
            Some of the rows, and what is left in them; every row is in one such part.
        """
        index = torch.tensor(which, device=scores.device)
        numbers, uses = self._numbers[index], self._uses[index]
        log_total, entropy = self._of_all(scores, which, numbers)
        parts: list[tuple[list[int], Kept]] = []
        rows = list(range(len(which)))
        for count in [*(look for look in _LOOKS if look < scores.vocabulary), scores.vocabulary]:
            if len(rows) == len(which):
                own, chosen = scores, slice(None)
            else:
                chosen = torch.tensor(rows, device=scores.device)  # type: ignore[assignment]
                own = scores.of_rows(chosen)  # type: ignore[arg-type]
            first = own.likeliest(count)
            state = _State(
                first.scores, log_total[chosen], entropy[chosen], numbers[chosen], uses[chosen],
                complete=count == scores.vocabulary,
            )  # fmt: skip
            for kind, cut in _CUTS.items():
                if self._used[kind]:
                    cut(state)
            # Here the host waits for the device, once a step as a rule.
            settled = state.is_settled()[:, 0].tolist()
            done = [place for place, yes in enumerate(settled) if yes]
            if not done:
                continue
            kept = Kept(first.tokens, state.scores)
            if len(done) < len(rows):
                kept = kept.of_rows(torch.tensor(done, device=scores.device))
            parts.append(([rows[place] for place in done], kept if count == NEAR else kept.trimmed()))
            rows = [row for row, yes in zip(rows, settled, strict=True) if not yes]
            if not rows:
                break
        return parts

    def _of_all(self, scores: Scores, which: Sequence[int], numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 1) log of the sum of exp(logits / temperature), and the entropy, where they are asked for."""
        nothing = numbers.new_zeros((len(which), 1))
        if not any(one.asks_for_mass for one in self._cuts):
            return nothing, nothing
        flat = self._used[_TYPICAL] or self._used[_ETA]
        log_total, entropy = scores.log_total(), scores.entropy() if flat else nothing
        heated = [
            place
            for place, one in enumerate(which)
            if self._cuts[one].temperature != 1.0 and self._cuts[one].asks_for_mass
        ]
        if heated:
            index = torch.tensor(heated, device=scores.device)
            hot = Scores(scores.of_rows(index).logits / numbers[index, :1])
            log_total = log_total.index_copy(0, index, hot.log_total())
            if flat:
                entropy = entropy.index_copy(0, index, hot.entropy())
        return log_total, entropy


@lru_cache(maxsize=64)
def truncations(cuts: tuple[Cuts, ...], device: str) -> Truncations:
    """Those of some strategies; which do not change from step to step."""
    return Truncations(cuts, device)


class _State:
    """Scores of the likeliest tokens on their way through the cuts.

    Attributes:
        scores: (M, n) likeliest first, -inf where one was cut.
        numbers, uses: (M, 7) of each row's `Cuts`.
        whole: (M, 1) nothing was cut yet, so that there is mass beyond the n tokens.
    """

    def __init__(
        self,
        scores: Tensor,
        log_total: Tensor,
        entropy: Tensor,
        numbers: Tensor,
        uses: Tensor,
        complete: bool,
    ) -> None:
        self.numbers, self.uses = numbers, uses
        self.scores = scores / numbers[:, :1]
        self.whole = torch.ones_like(uses[:, :1])
        self._settled = torch.ones_like(uses[:, :1])
        self._log_total, self._entropy = log_total, entropy
        self._complete = complete

    def number(self, kind: int) -> Tensor:
        """(M, 1)."""
        return self.numbers[:, kind, None]

    def log_p(self) -> Tensor:
        """(M, n) log-probabilities among all that is left."""
        own = self.scores.logsumexp(-1, keepdim=True)
        return self.scores - torch.where(self.whole, self._log_total, own)

    def entropy(self, log_p: Tensor) -> Tensor:
        """(M, 1) nats, of all that is left."""
        own = -(log_p.exp() * log_p).nansum(-1, keepdim=True)
        return torch.where(self.whole, self._entropy, own)

    def is_settled(self) -> Tensor:
        """(M, 1) whether nothing is left beyond the n tokens."""
        return self._settled & ~self.whole | self._complete

    def keep(self, kind: int, stays: Tensor, settles: Tensor | None = None) -> None:
        """Cut what does not stay, in the rows of which the strategy cuts so.

        It is settled where the last token is cut: those beyond are less likely. Where that does not follow,
        `settles` (M, 1) tells.
        """
        uses = self.uses[:, kind, None]
        settles = ~stays[:, -1:] if settles is None else settles
        self._settled &= settles | ~(self.whole & uses)
        self.scores = self.scores.masked_fill(~stays & uses, -_INF)
        self.whole = self.whole & ~uses


def _top_k(state: _State) -> None:
    """Fan et al. 2018 (arXiv:1805.04833); what equals the last of the k stays as well."""
    last = state.number(_TOP_K).clamp(max=state.scores.shape[1]).long() - 1
    state.keep(_TOP_K, state.scores >= state.scores.gather(1, last))


def _top_p(state: _State) -> None:
    """Holtzman et al. 2020 (arXiv:1904.09751): a token stays while what is likelier holds less than top_p."""
    p = state.log_p().exp()
    state.keep(_TOP_P, _and_the_first(p.cumsum(-1) - p < state.number(_TOP_P)))


def _min_p(state: _State) -> None:
    """Nguyen et al. 2024 (arXiv:2407.01082): tokens at least min_p times as likely as the likeliest."""
    share = (state.scores - state.scores[:, :1]).exp()
    state.keep(_MIN_P, _and_the_first(share >= state.number(_MIN_P)))


def _typical(state: _State) -> None:
    """Meister et al. 2023 (arXiv:2202.00666): tokens whose information is nearest to the entropy, until they
    hold typical_p of the mass."""
    log_p = state.log_p()
    entropy = state.entropy(log_p)
    distance = (-log_p - entropy).abs()
    nearest, places = distance.sort(-1)
    mass = log_p.exp().gather(1, places).cumsum(-1)
    last = (mass < state.number(_TYPICAL)).sum(-1, keepdim=True)
    border = nearest.gather(1, last.clamp(max=distance.shape[1] - 1))
    # Beyond the last token lie only less likely ones. If it lies on the unlikely side of the entropy, they
    # lie farther away than it; if it is cut, so are they.
    settles = (-log_p[:, -1:] >= entropy) & (distance[:, -1:] > border)
    state.keep(_TYPICAL, distance <= border, settles)


def _epsilon(state: _State) -> None:
    """Hewitt et al. 2022 (arXiv:2210.15191): tokens of at least this probability, and the likeliest."""
    state.keep(_EPSILON, _and_the_best(state, state.log_p().exp() >= state.number(_EPSILON)))


def _eta(state: _State) -> None:
    """The same, with a threshold that falls where the distribution is flat."""
    log_p = state.log_p()
    eta = state.number(_ETA)
    threshold = torch.minimum(eta, eta.sqrt() * (-state.entropy(log_p)).exp())
    state.keep(_ETA, _and_the_best(state, log_p.exp() >= threshold))


def _and_the_first(stays: Tensor) -> Tensor:
    stays[:, 0] = True
    return stays


def _and_the_best(state: _State, stays: Tensor) -> Tensor:
    """The likeliest of what is left, which need not be the first, stays."""
    return stays | (state.scores >= state.scores.amax(-1, keepdim=True))


_CUTS = {_TOP_K: _top_k, _TOP_P: _top_p, _MIN_P: _min_p, _TYPICAL: _typical, _EPSILON: _epsilon, _ETA: _eta}
