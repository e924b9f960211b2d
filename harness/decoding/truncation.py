"""What a strategy's truncations leave of the vocabulary, found among its likeliest tokens.

transformers' warpers each go through the whole vocabulary, and two of them sort it. What they leave is a few
of the likeliest tokens; so these are found once a step for all strategies (`scores.py`), and the truncations
look at them alone. Each keeps just what the stock one keeps, up to the rounding of a sum at its border. Where
the first tokens do not settle that, more of them are looked at, and in the end the stock warpers are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.generation import logits_process as stock

from harness.decoding.scores import NEAR, Likeliest, Scores

_LOOKS = (NEAR, 1024, 8192)
"""How many of the likeliest tokens are looked at, until they settle it."""

_NEG_INF = float("-inf")


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
        same = self.tokens[:, None, :] == tokens[:, :, None]
        return torch.where(same, self.scores[:, None, :], _NEG_INF).amax(-1)


class Truncation:
    """The warpers that end a strategy's list, a truncation among them."""

    def __init__(self, warpers: Sequence[Any]) -> None:
        """`warpers` are stock ones, of kinds that are known here (`known_tail`), in `generate`'s order."""
        self._warpers = warpers

    def __call__(self, scores: Scores) -> Kept | None:
        """What is left of (R, V) scores.

        Returns:
            None where the likeliest tokens do not settle it, and on an accelerator: there a sort is cheap,
            and asking whether it is settled makes the host wait.
        """
        if scores.device.type != "cpu":
            return None
        for count in _LOOKS:
            if count < scores.vocabulary:
                kept = self._among(scores.likeliest(count), scores)
                if kept is not None:
                    return kept
        return None

    def _among(self, first: Likeliest, scores: Scores) -> Kept | None:
        state = _State(scores, first.scores)
        for warper in self._warpers:
            if not _CUTS[type(warper)](warper, state):
                return None
        # What lies behind the last token that any row keeps is of no use to anybody.
        used = (state.scores > _NEG_INF).any(0).nonzero()[:, 0]
        width = max(NEAR, int(used[-1]) + 1 if len(used) else 0)
        return Kept(first.tokens[:, :width], state.scores[:, :width])


def known_tail(processors: Sequence[Any]) -> int:
    """How many processors at the end of a list a Truncation can stand for; 0 where none of them truncates."""
    count = 0
    while count < len(processors) and _known(processors[-1 - count]):
        count += 1
    tail = processors[len(processors) - count :]
    return count if any(type(one) is not stock.TemperatureLogitsWarper for one in tail) else 0


def _known(processor: Any) -> bool:
    return (
        type(processor) in _CUTS
        and getattr(processor, "min_tokens_to_keep", 1) == 1
        and getattr(processor, "filter_value", _NEG_INF) == _NEG_INF
    )


class _State:
    """Scores of the likeliest tokens on their way through the warpers; sorted, but for what was cut.

    Attributes:
        scores: (R, n).
        whole: nothing was cut yet, so that there is mass beyond them.
    """

    def __init__(self, all_scores: Scores, scores: Tensor) -> None:
        self.scores = scores
        self.whole = True
        self._all = all_scores
        self._temperature = 1.0

    def heat(self, temperature: float) -> None:
        self.scores = self.scores / temperature
        self._temperature *= temperature

    def log_p(self) -> Tensor:
        """(R, n) log-probabilities among all that is left."""
        if self.whole:
            return self.scores - self._all.log_total(self._temperature)
        return self.scores - self.scores.logsumexp(-1, keepdim=True)

    def entropy(self, log_p: Tensor) -> Tensor:
        """(R, 1) nats, of all that is left."""
        if self.whole:
            return self._all.entropy(self._temperature)
        return -(log_p.exp() * log_p).nansum(-1, keepdim=True)

    def keep(self, stays: Tensor) -> bool:
        """Cut what does not stay, where less likely tokens never stay without likelier ones.

        Returns:
            Whether that settles it: the last token is cut in every row, or nothing is beyond the last.
        """
        if self.whole and bool(stays[:, -1].any()):
            return False
        self.scores = self.scores.masked_fill(~stays, _NEG_INF)
        self.whole = False
        return True


def _temperature(warper: stock.TemperatureLogitsWarper, state: _State) -> bool:
    state.heat(warper.temperature)
    return True


def _top_k(warper: stock.TopKLogitsWarper, state: _State) -> bool:
    """Fan et al. 2018 (arXiv:1805.04833); what equals the last of the k stays as well."""
    if state.whole and warper.top_k >= state.scores.shape[1]:
        return False
    last = min(warper.top_k, state.scores.shape[1]) - 1
    return state.keep(state.scores >= state.scores[:, last, None])


def _top_p(warper: stock.TopPLogitsWarper, state: _State) -> bool:
    """Holtzman et al. 2020 (arXiv:1904.09751): a token stays while what is likelier holds less than top_p."""
    p = state.log_p().exp()
    stays = p.cumsum(-1) - p < warper.top_p
    stays[:, 0] = True
    return state.keep(stays)


def _min_p(warper: stock.MinPLogitsWarper, state: _State) -> bool:
    """Nguyen et al. 2024 (arXiv:2407.01082): tokens at least min_p times as likely as the likeliest."""
    stays = (state.scores - state.scores[:, :1]).exp() >= warper.min_p
    stays[:, 0] = True
    return state.keep(stays)


def _typical(warper: stock.TypicalLogitsWarper, state: _State) -> bool:
    """Meister et al. 2023 (arXiv:2202.00666): tokens whose information is nearest to the entropy, until they
    hold typical_p of the mass."""
    log_p = state.log_p()
    distance = (-log_p - state.entropy(log_p)).abs()
    nearest, places = distance.sort(-1)
    last = (log_p.exp().gather(1, places).cumsum(-1) < warper.mass).sum(-1, keepdim=True)
    border = nearest.gather(1, last.clamp(max=distance.shape[1] - 1))
    if state.whole:
        # Beyond the last token lie only tokens that are less likely: farther away than it, if it lies on the
        # entropy's unlikely side. It is cut; so are they.
        unlikely = -log_p[:, -1:] >= state.entropy(log_p)
        if not bool((unlikely & (distance[:, -1:] > border)).all()):
            return False
    return _cut(state, distance > border)


def _epsilon(warper: stock.EpsilonLogitsWarper, state: _State) -> bool:
    """Hewitt et al. 2022 (arXiv:2210.15191): tokens of at least this probability, and the likeliest."""
    return _at_least(state, state.log_p(), torch.tensor(warper.epsilon))


def _eta(warper: stock.EtaLogitsWarper, state: _State) -> bool:
    """The same, with a threshold that falls where the distribution is flat."""
    log_p = state.log_p()
    epsilon = warper.epsilon.to(log_p.device)
    return _at_least(state, log_p, torch.min(epsilon, epsilon.sqrt() * (-state.entropy(log_p)).exp()))


def _at_least(state: _State, log_p: Tensor, threshold: Tensor) -> bool:
    stays = (log_p.exp() >= threshold) | (state.scores >= state.scores.amax(-1, keepdim=True))
    return state.keep(stays)


def _cut(state: _State, goes: Tensor) -> bool:
    """Cut some; nothing beyond the last token stays."""
    state.scores = state.scores.masked_fill(goes, _NEG_INF)
    state.whole = False
    return True


_CUTS: dict[type, Callable[[Any, _State], bool]] = {
    stock.TemperatureLogitsWarper: _temperature,
    stock.TopKLogitsWarper: _top_k,
    stock.TopPLogitsWarper: _top_p,
    stock.MinPLogitsWarper: _min_p,
    stock.TypicalLogitsWarper: _typical,
    stock.EpsilonLogitsWarper: _epsilon,
    stock.EtaLogitsWarper: _eta,
}
"""How a warper of each kind acts on the likeliest tokens; False where they do not settle it."""
