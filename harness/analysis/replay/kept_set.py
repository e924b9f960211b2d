"""Which tokens a strategy would keep at recorded steps: kept, cut, or not to be told.

The truncations are those of transformers' logits_process, in its order: temperature, top_k, top_p, min_p,
epsilon, eta. Each keeps the likeliest tokens down to a border (tokens that tie at the border of top_p are
kept or cut in an order that is not recorded). Where the border falls among the recorded alternatives the
answer is known; the rest, whose tokens have no names, is bounded by its mass and by the last alternative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.analysis.replay.rounding import NEAR, mass_error, score_error, tie
from harness.analysis.replay.stored_steps import StoredSteps
from harness.analysis.replay.warp import Warp

CUT, UNKNOWN, KEPT = 0, 1, 2


@dataclass(frozen=True)
class Kept:
    """What a strategy leaves of S steps; masses are relative to the likeliest token's after temperature.

    Attributes:
        tokens: (S, k + 1) CUT, UNKNOWN or KEPT for each of the steps' `ids`.
        rest: (S,) the same for all other tokens together; UNKNOWN also where some are cut and some not.
        low, high: (S,) bounds on the log of the mass of what is kept.
        ratio: (S, k + 1) log of each token's mass.
        rest_high: (S,) bound on the mass of all other tokens.
        rest_ratio: (S,) bound on the log of the mass of any one of them.
    """

    tokens: np.ndarray
    rest: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ratio: np.ndarray
    rest_high: np.ndarray
    rest_ratio: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """(S,) bool, where each kept token is known by name."""
        return (self.rest == CUT) & (self.tokens != UNKNOWN).all(1)


def truncate(steps: StoredSteps, warp: Warp) -> Kept:
    """What `warp` leaves of each step."""
    state = _State(steps, warp)
    if warp.top_k:
        state.top_k(warp.top_k)
    if warp.top_p < 1.0:
        state.top_p(warp.top_p)
    if warp.min_p:
        state.min_p(warp.min_p)
    if warp.epsilon:
        state.cutoff(np.log(warp.epsilon), np.log(warp.epsilon))
    if warp.eta:
        state.eta(warp.eta)
    low, high = state.mass()
    if warp.temperature == 1.0:
        # Nothing is cut, nothing divided: the mass is that of the raw distribution, exactly.
        whole = state.rest == KEPT
        exact = np.exp(-steps.logprobs[:, 0])
        low, high = np.where(whole, exact, low), np.where(whole, exact, high)
    return Kept(
        state.tokens, state.rest, np.log(low), np.log(high), state.ratio, state.rest_high, state.rest_ratio
    )


class _State:
    """What is left after the truncations so far."""

    def __init__(self, steps: StoredSteps, warp: Warp) -> None:
        self.steps = steps
        self.temperature = warp.temperature
        self.logprobs, top = steps.logprobs, steps.logprobs[:, :1]
        self.ratio = (self.logprobs - top) / warp.temperature
        self.weight = np.exp(self.ratio)
        self.rest_ratio = (steps.rest_most - top[:, 0]) / warp.temperature
        self.rest_low, self.rest_high = _rest_weight(steps, warp.temperature)
        self.error = score_error(self.logprobs, warp.temperature) + score_error(top, warp.temperature)
        self.tie = tie(warp.temperature)
        there = np.isfinite(self.logprobs)
        self.tokens = np.where(there, KEPT, CUT).astype(np.int8)
        self.rest = np.where(np.isfinite(steps.rest_most), KEPT, CUT).astype(np.int8)

    def mass(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on the mass that is left."""
        sure = np.where(self.tokens == KEPT, self.weight, 0.0).sum(1)
        maybe = np.where(self.tokens >= UNKNOWN, self.weight, 0.0).sum(1)
        low = sure + np.where(self.rest == KEPT, self.rest_low, 0.0)
        # One token as likely as the likeliest is always left, whichever of several it is.
        low = np.maximum(low, np.exp(-2 * (self.error[:, 0] + self.tie / self.temperature)))
        return low, np.maximum(low, maybe + np.where(self.rest >= UNKNOWN, self.rest_high, 0.0))

    def top_k(self, k: int) -> None:
        """Keep tokens whose score is at least the k-th greatest."""
        steps, logp, depth = self.steps, self.logprobs, self.steps.depth
        if k >= steps.vocabulary:
            return
        places = np.arange(depth)
        last_touched = self._touched(0.0)
        _, ends = _groups(logp[:, :depth], 0.0)
        in_last = (ends == depth - 1) & last_touched[:, None]
        if k <= depth:
            border = logp[:, k - 1 : k]
            sure = (ends + 1 <= k) & ~in_last
            cut = logp < border - self.tie
            rest_cut = steps.rest_most < border[:, 0] - self.tie
            outside_sure = np.zeros(len(steps), dtype=bool)
        else:
            sure = ~in_last | (places + 1 + NEAR <= k)
            cut = np.zeros(logp.shape, dtype=bool)
            cut[:, depth] = steps.rank - 1 >= k + (NEAR if self.tie else 0)
            rest_cut = np.zeros(len(steps), dtype=bool)
            # At most 1 / p tokens are as likely as one of probability p.
            outside_sure = (steps.rank + NEAR <= k) | (logp[:, depth] >= 1e-4 - np.log(k))
        self._narrow(np.column_stack([sure, outside_sure]), cut, rest_cut)

    def top_p(self, p: float) -> None:
        """Keep tokens while those before them hold less than p; the first always stays."""
        steps, depth = self.steps, self.steps.depth
        low, high = self.mass()
        error = mass_error(steps.vocabulary, self.temperature)
        alive = np.where(self.tokens >= UNKNOWN, self.weight, 0.0)
        summed = np.cumsum(alive[:, :depth], axis=1)
        before = np.column_stack([np.zeros(len(steps)), summed])
        starts, ends = _groups(self.logprobs[:, :depth], self.tie)
        rows = np.arange(len(steps))[:, None]
        least = before[rows, starts]
        most = before[rows, ends + 1] - alive[:, :depth]
        # What may stand among the last alternatives, or before them, when they tie.
        rest = np.where(self.rest >= UNKNOWN, self.rest_high, 0.0)
        others = rest + alive[:, depth]
        most += np.where((ends == depth - 1) & self._touched(self.tie)[:, None], others[:, None], 0.0)
        # The chosen token, where it is outside: its rank tells how many stand before it.
        chosen = self.logprobs[:, depth]
        likelier = (self.logprobs[:, :depth] > chosen[:, None] + self.tie).sum(1)
        between = np.maximum(steps.rank - 1 - likelier - (NEAR if self.tie else 0), 0)
        outside_least = before[np.arange(len(steps)), likelier] + between * self.weight[:, depth]
        least = np.column_stack([least, outside_least])
        most = np.column_stack([np.maximum(most, 0.0), summed[:, -1] + rest])
        sure = (most / low[:, None] < p - error) | (most == 0.0)
        cut = least / high[:, None] > p + error
        likelier = (self.logprobs[:, :depth] > steps.rest_most[:, None] + self.tie).sum(1)
        rest_cut = before[np.arange(len(steps)), likelier] / high > p + error
        self._narrow(sure, cut, rest_cut)

    def min_p(self, p: float) -> None:
        """Keep tokens at least p times as likely as the likeliest."""
        border = np.log(p)
        sure = self._first() | (self.ratio >= border + self.error)
        cut = self.ratio < border - self.error
        self._narrow(sure, cut, self.rest_ratio < border - self._rest_error())

    def cutoff(self, low: np.ndarray | float, high: np.ndarray | float) -> None:
        """Keep tokens of at least a probability, and the likeliest; bounds on its log are given."""
        mass_low, mass_high = (np.log(mass)[:, None] for mass in self.mass())
        error = self.error + mass_error(self.steps.vocabulary, self.temperature)
        low, high = np.reshape(low, (-1, 1)), np.reshape(high, (-1, 1))
        sure = self._first() | (self.ratio - mass_high >= high + error)
        apart = self.logprobs < self.logprobs[:, :1] - self.tie
        cut = (self.ratio - mass_low < low - error) & apart
        rest_cut = self.rest_ratio - mass_low[:, 0] < low[:, 0] - self._rest_error() - error[:, 0]
        rest_cut &= self.steps.rest_most < self.logprobs[:, 0] - self.tie
        self._narrow(sure, cut, rest_cut)

    def eta(self, eta: float) -> None:
        """Keep tokens of at least min(eta, sqrt(eta) exp(-entropy)) (Hewitt et al. 2022,
        arXiv:2210.15191), and the likeliest."""
        mass = np.log(self.mass()[0])
        log_q = self.ratio - mass[:, None]
        kept = self.tokens == KEPT
        own = -np.where(kept, np.exp(log_q) * np.where(kept, log_q, 0.0), 0.0).sum(1)
        named = (self.rest == CUT) & (self.tokens != UNKNOWN).all(1)
        raw = (self.rest == KEPT) & (self.temperature == 1.0)
        entropy = np.where(named, own, self.steps.entropy)
        least = np.where(named | raw, entropy * (1 - 1e-4) - 1e-4, 0.0)
        most = np.where(named | raw, entropy * (1 + 1e-4) + 1e-4, np.inf)
        border = np.log(eta)
        self.cutoff(np.minimum(border, border / 2 - most), np.minimum(border, border / 2 - least))

    def _first(self) -> np.ndarray:
        """(S, k + 1) bool, the likeliest token where no other is as likely."""
        logp, depth = self.logprobs, self.steps.depth
        second = logp[:, 1] if depth > 1 else np.where(self.steps.outside, logp[:, depth], -np.inf)
        alone = np.maximum(second, self.steps.rest_most) < logp[:, 0] - self.tie
        return alone[:, None] & (np.arange(logp.shape[1]) == 0)

    def _touched(self, tie: float) -> np.ndarray:
        """(S,) bool, whether a token behind the alternatives may be as likely as the last of them."""
        behind = np.maximum(self.steps.rest_most, self.logprobs[:, self.steps.depth])
        return behind >= self.logprobs[:, self.steps.depth - 1] - tie

    def _rest_error(self) -> np.ndarray:
        """(S,) of a token that may be as likely as the likeliest of the rest."""
        return score_error(self.steps.rest_most, self.temperature) + self.error[:, 0]

    def _narrow(self, sure: np.ndarray, cut: np.ndarray, rest_cut: np.ndarray) -> None:
        """One more truncation: it keeps what is sure, cuts what is cut, and the others it may cut."""
        one = np.where(cut, CUT, np.where(sure, KEPT, UNKNOWN)).astype(np.int8)
        self.tokens = np.minimum(self.tokens, one)
        self.rest = np.minimum(self.rest, np.where(rest_cut, CUT, UNKNOWN).astype(np.int8))


def _groups(logp: np.ndarray, tie: float) -> tuple[np.ndarray, np.ndarray]:
    """(S, k) first and last place of the run of ties that each of the sorted logprobs stands in."""
    count, depth = logp.shape
    with np.errstate(invalid="ignore"):
        parts = (logp[:, :-1] - logp[:, 1:] > tie) | (logp[:, 1:] == -np.inf)
    places = np.arange(depth)
    begins = np.column_stack([np.ones(count, dtype=bool), parts])
    ends = np.column_stack([parts, np.ones(count, dtype=bool)])
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, places, depth - 1)[:, ::-1], axis=1)[:, ::-1]
    return first, last


def _rest_weight(steps: StoredSteps, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """(S,) bounds on the sum of (p / p_top) ** (1 / T) over the tokens that are not recorded.

    Their sum of p is known, and that each is at most the last alternative's. p ** s is convex for s > 1 and
    concave for s < 1, so the sum is between that of mass spread evenly and that of mass in the fewest tokens.
    """
    top = np.exp(steps.logprobs[:, 0])
    low, high = (mass / top for mass in steps.rest_mass)
    power = 1.0 / temperature
    if power == 1.0:
        return low, high
    count = steps.rest_tokens
    most = np.exp(steps.rest_most - steps.logprobs[:, 0])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if power > 1.0:
            spread = np.where(np.isfinite(count) & (count > 0), count ** (1 - power) * low**power, 0.0)
            packed = high * most ** (power - 1)
            return spread, np.where(high > 0, packed, 0.0)
        packed = np.where((low > 0) & (most > 0), low * most ** (power - 1), 0.0)
        spread = np.where(high > 0, count ** (1 - power) * high**power, 0.0)
        return np.minimum(packed, spread), np.minimum(spread, np.where(count > 0, count * most**power, 0.0))
