"""Which tokens a strategy would keep at recorded steps: each is kept, removed or undecidable.

The truncations act in the order of `decoding/samplers.py`: temperature, top_n_sigma, top_k, top_p, min_p,
epsilon, eta, top_a, p_less. Each keeps the likeliest tokens down to a threshold (of tokens that tie at the
threshold of top_p, some are kept and some removed, in an order that is not recorded). If the threshold falls
among the recorded alternatives the result is known. The tokens that were not recorded, the rest, are bounded
by their total mass and by the last alternative.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from harness.analysis.replay.rounding import HALF_ULP, LOGITS, NEAR, mass_error, score_error, tie_distance
from harness.analysis.replay.stored_steps import StoredSteps
from harness.analysis.replay.warp import Warp

REMOVED, UNKNOWN, KEPT = 0, 1, 2

P_LESS_SLACK = 2e-6
"""In log-probability: p_less keeps a uniform distribution in spite of rounding."""


def truncate(steps: StoredSteps, warp: Warp) -> KeptSet:
    """Return what `warp` keeps of each step."""
    kept = KeptSet(steps, warp.temperature)
    if warp.n_sigma:
        kept.top_n_sigma(warp.n_sigma)
    if warp.top_k:
        kept.top_k(warp.top_k)
    if warp.top_p < 1.0:
        kept.top_p(warp.top_p)
    if warp.min_p:
        kept.min_p(warp.min_p)
    if warp.epsilon:
        kept.cutoff(np.log(warp.epsilon), np.log(warp.epsilon))
    if warp.eta:
        kept.eta(warp.eta)
    if warp.top_a:
        kept.top_a(warp.top_a)
    if warp.p_less:
        kept.p_less(normalised=warp.p_less > 1)
    return kept


class KeptSet:
    """What the truncations applied so far keep of S steps.

    A token's weight is its probability after temperature relative to that of the likeliest token.

    Attributes:
        tokens: (S, k + 1) REMOVED, UNKNOWN or KEPT, of the steps' `ids`.
        rest: (S,) the same of all other tokens together; UNKNOWN also if some are removed and some kept.
        weight, log_weight: (S, k + 1) of `ids`.
        rest_mass_low, rest_mass_high: (S,) bounds on the total weight of all other tokens.
        rest_log_weight: (S,) upper bound on the log of the weight of any one of them.
        error: (S, k + 1) bounds on the rounding of `log_weight`.
        tie: how far apart the logprobs of equal scores can be.
    """

    def __init__(self, steps: StoredSteps, temperature: float) -> None:
        self.steps = steps
        self.temperature = temperature
        self.logprobs, top = steps.logprobs, steps.logprobs[:, :1]
        self.log_weight = (self.logprobs - top) / temperature
        self.weight = np.exp(self.log_weight)
        self.rest_log_weight = (steps.rest_max_logprob - top[:, 0]) / temperature
        self.rest_mass_low, self.rest_mass_high = _rest_mass(steps, temperature)
        self.error = score_error(self.logprobs, temperature) + score_error(top, temperature)
        self.tie = tie_distance(temperature)
        self.tokens = np.where(np.isfinite(self.logprobs), KEPT, REMOVED).astype(np.int8)
        self.rest = np.where(np.isfinite(steps.rest_max_logprob), KEPT, REMOVED).astype(np.int8)

    @cached_property
    def log_mass(self) -> tuple[np.ndarray, np.ndarray]:
        """(S,) bounds on the log of the total weight of the kept tokens, after the last truncation."""
        low, high = self.mass()
        if self.temperature == 1.0:
            # Without temperature and truncation, the mass is exactly that of the raw distribution.
            complete, exact = self.rest == KEPT, np.exp(-self.logprobs[:, 0])
            low, high = np.where(complete, exact, low), np.where(complete, exact, high)
        return np.log(low), np.log(high)

    def mass(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (S,) bounds on the total weight of the kept tokens."""
        kept = np.where(self.tokens == KEPT, self.weight, 0.0).sum(1)
        possible = np.where(self.tokens >= UNKNOWN, self.weight, 0.0).sum(1)
        low = kept + np.where(self.rest == KEPT, self.rest_mass_low, 0.0)
        # One token as likely as the likeliest is always kept, whichever of several it is.
        low = np.maximum(low, np.exp(-2 * (self.error[:, 0] + self.tie / self.temperature)))
        return low, np.maximum(low, possible + np.where(self.rest >= UNKNOWN, self.rest_mass_high, 0.0))

    def top_k(self, k: int) -> None:
        """Keep the tokens whose score is at least the k-th largest."""
        steps, logp, depth = self.steps, self.logprobs, self.steps.depth
        if k >= steps.vocabulary:
            return
        _, last = _tied_runs(logp[:, :depth], 0.0)
        open_run = (last == depth - 1) & self._rest_may_tie(0.0)[:, None]
        if k <= depth:
            threshold = logp[:, k - 1 : k]
            kept = (last + 1 <= k) & ~open_run
            removed = logp < threshold - self.tie
            rest_removed = steps.rest_max_logprob < threshold[:, 0] - self.tie
            outside_kept = np.zeros(len(steps), dtype=bool)
        else:
            kept = ~open_run | (np.arange(depth) + 1 + NEAR <= k)
            removed = np.zeros(logp.shape, dtype=bool)
            removed[:, depth] = steps.rank - 1 >= k + (NEAR if self.tie else 0)
            rest_removed = np.zeros(len(steps), dtype=bool)
            # At most 1 / p tokens are as likely as one of probability p.
            outside_kept = (steps.rank + NEAR <= k) | (logp[:, depth] >= 1e-4 - np.log(k))
        self._narrow(np.column_stack([kept, outside_kept]), removed, rest_removed)

    def top_p(self, p: float) -> None:
        """Keep the tokens before which the cumulative probability is below p; the first is always kept."""
        steps, depth = self.steps, self.steps.depth
        low, high = self.mass()
        error = mass_error(steps.vocabulary, self.temperature)
        possible = np.where(self.tokens >= UNKNOWN, self.weight, 0.0)
        cumulative = np.cumsum(possible[:, :depth], axis=1)
        before = np.column_stack([np.zeros(len(steps)), cumulative])
        first, last = _tied_runs(self.logprobs[:, :depth], self.tie)
        rows = np.arange(len(steps))
        before_low = before[rows[:, None], first]
        before_high = before[rows[:, None], last + 1] - possible[:, :depth]
        # Tokens that tie with the last alternatives may be ordered among or before them.
        rest = np.where(self.rest >= UNKNOWN, self.rest_mass_high, 0.0)
        others = rest + possible[:, depth]
        open_run = (last == depth - 1) & self._rest_may_tie(self.tie)[:, None]
        before_high += np.where(open_run, others[:, None], 0.0)
        # A chosen token outside the alternatives: its rank tells how many tokens are before it.
        chosen = self.logprobs[:, depth]
        likelier = (self.logprobs[:, :depth] > chosen[:, None] + self.tie).sum(1)
        between = np.maximum(steps.rank - 1 - likelier - (NEAR if self.tie else 0), 0)
        outside_low = before[rows, likelier] + between * self.weight[:, depth]
        before_low = np.column_stack([before_low, outside_low])
        before_high = np.column_stack([np.maximum(before_high, 0.0), cumulative[:, -1] + rest])
        kept = (before_high / low[:, None] < p - error) | (before_high == 0.0)
        removed = before_low / high[:, None] > p + error
        likelier = (self.logprobs[:, :depth] > steps.rest_max_logprob[:, None] + self.tie).sum(1)
        rest_removed = before[rows, likelier] / high > p + error
        self._narrow(kept, removed, rest_removed)

    def min_p(self, p: float) -> None:
        """Keep the tokens at least p times as likely as the likeliest."""
        threshold = np.log(p)
        kept = self._is_likeliest() | (self.log_weight >= threshold + self.error)
        removed = self.log_weight < threshold - self.error
        self._narrow(kept, removed, self.rest_log_weight < threshold - self._rest_error())

    def cutoff(self, low: np.ndarray | float, high: np.ndarray | float) -> None:
        """Keep the tokens of at least some probability, and the likeliest; given are bounds on its log."""
        mass_low, mass_high = (np.log(mass)[:, None] for mass in self.mass())
        error = self.error + mass_error(self.steps.vocabulary, self.temperature)
        low, high = np.reshape(low, (-1, 1)), np.reshape(high, (-1, 1))
        kept = self._is_likeliest() | (self.log_weight - mass_high >= high + error)
        not_tied = self.logprobs < self.logprobs[:, :1] - self.tie
        removed = (self.log_weight - mass_low < low - error) & not_tied
        rest_error = self._rest_error() + error[:, 0]
        rest_removed = self.rest_log_weight - mass_low[:, 0] < low[:, 0] - rest_error
        rest_removed &= self.steps.rest_max_logprob < self.logprobs[:, 0] - self.tie
        self._narrow(kept, removed, rest_removed)

    def eta(self, eta: float) -> None:
        """Keep tokens of at least min(eta, sqrt(eta) exp(-entropy)), and the likeliest.

        Hewitt et al. 2022, "Truncation Sampling as Language Model Desmoothing", arXiv:2210.15191.
        """
        log_mass = np.log(self.mass()[0])
        log_q = self.log_weight - log_mass[:, None]
        kept = self.tokens == KEPT
        kept_entropy = -np.where(kept, np.exp(log_q) * np.where(kept, log_q, 0.0), 0.0).sum(1)
        all_known = (self.rest == REMOVED) & (self.tokens != UNKNOWN).all(1)
        raw = (self.rest == KEPT) & (self.temperature == 1.0)
        entropy = np.where(all_known, kept_entropy, self.steps.entropy)
        low = np.where(all_known | raw, entropy * (1 - 1e-4) - 1e-4, 0.0)
        high = np.where(all_known | raw, entropy * (1 + 1e-4) + 1e-4, np.inf)
        log_eta = np.log(eta)
        self.cutoff(np.minimum(log_eta, log_eta / 2 - high), np.minimum(log_eta, log_eta / 2 - low))

    def top_n_sigma(self, n: float) -> None:
        """Keep the logits within n standard deviations, which were recorded, of the largest."""
        threshold = -n * self.steps.deviation[:, None] / self.temperature
        error = self.error + np.abs(threshold) * 1e-5 + 4 * LOGITS * HALF_ULP / self.temperature
        kept = self._is_likeliest() | (self.log_weight >= threshold + error)
        removed = self.log_weight < threshold - error
        self._narrow(kept, removed, self.rest_log_weight < (threshold - error)[:, 0] - self._rest_error())

    def top_a(self, a: float) -> None:
        """Keep tokens of at least a times the square of the largest probability, and the likeliest."""
        mass_low, mass_high = (np.log(mass) for mass in self.mass())
        # p >= a p1^2 where w >= a / mass, w1 being 1
        self._threshold(np.log(a) - mass_high, np.log(a) - mass_low)

    def p_less(self, *, normalised: bool) -> None:
        """Keep tokens at least as likely as the sum of the squared probabilities, and the likeliest."""
        mass_low, mass_high = self.mass()
        known = np.where(self.tokens == KEPT, self.weight, 0.0)
        possible = np.where(self.tokens >= UNKNOWN, self.weight, 0.0)
        largest = np.exp(self.rest_log_weight)
        rest = np.where(self.rest >= UNKNOWN, self.rest_mass_high * largest, 0.0)
        low, high = (known**2).sum(1) / mass_high**2, ((possible**2).sum(1) + rest) / mass_low**2
        raw = (self.rest == KEPT) & (self.tokens != UNKNOWN).all(1) & (self.temperature == 1.0)
        raw &= np.isfinite(self.steps.squares)
        low = np.where(raw, self.steps.squares, low) * (1 - 1e-4)
        high = np.minimum(np.where(raw, self.steps.squares, high) * (1 + 1e-4), 1.0)
        if normalised:
            size = self.steps.vocabulary
            if np.isfinite(size):
                low, high = ((size * bound - 1) / (size - 1) for bound in (low, high))
            else:
                low = np.zeros_like(low)
        with np.errstate(divide="ignore"):
            low, high = (np.log(np.maximum(bound, 0.0)) for bound in (low, high))
        self._threshold(low + np.log(mass_low), high + np.log(mass_high))

    def _threshold(self, low: np.ndarray, high: np.ndarray) -> None:
        """Keep tokens whose weight is at least some, and the likeliest; given are bounds (S,) on its log."""
        error = self.error + mass_error(self.steps.vocabulary, self.temperature)
        kept = self._is_likeliest() | (self.log_weight >= high[:, None] + error)
        not_tied = self.logprobs < self.logprobs[:, :1] - self.tie
        removed = (self.log_weight < low[:, None] - error - P_LESS_SLACK) & not_tied
        rest_removed = self.rest_log_weight < low - self._rest_error() - error[:, 0] - P_LESS_SLACK
        rest_removed &= self.steps.rest_max_logprob < self.logprobs[:, 0] - self.tie
        self._narrow(kept, removed, rest_removed)

    def _is_likeliest(self) -> np.ndarray:
        """Return (S, k + 1) bool, the likeliest token where no other is as likely."""
        logp, depth = self.logprobs, self.steps.depth
        second = logp[:, 1] if depth > 1 else np.where(self.steps.outside, logp[:, depth], -np.inf)
        unique = np.maximum(second, self.steps.rest_max_logprob) < logp[:, 0] - self.tie
        return unique[:, None] & (np.arange(logp.shape[1]) == 0)

    def _rest_may_tie(self, tie: float) -> np.ndarray:
        """Return (S,) bool, whether a token outside the alternatives may be as likely as the last of them."""
        likeliest_outside = np.maximum(self.steps.rest_max_logprob, self.logprobs[:, self.steps.depth])
        return likeliest_outside >= self.logprobs[:, self.steps.depth - 1] - tie

    def _rest_error(self) -> np.ndarray:
        """Return (S,) the rounding error of the likeliest score that a token of the rest may have."""
        return score_error(self.steps.rest_max_logprob, self.temperature) + self.error[:, 0]

    def _narrow(self, kept: np.ndarray, removed: np.ndarray, rest_removed: np.ndarray) -> None:
        """Apply a truncation that certainly keeps and removes these tokens, and may remove the others."""
        tokens = np.where(removed, REMOVED, np.where(kept, KEPT, UNKNOWN)).astype(np.int8)
        self.tokens = np.minimum(self.tokens, tokens)
        self.rest = np.minimum(self.rest, np.where(rest_removed, REMOVED, UNKNOWN).astype(np.int8))


def _tied_runs(logp: np.ndarray, tie: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (S, k) first and last column of the run of ties that each of the sorted logprobs belongs to."""
    count, depth = logp.shape
    with np.errstate(invalid="ignore"):
        breaks = (logp[:, :-1] - logp[:, 1:] > tie) | (logp[:, 1:] == -np.inf)
    columns = np.arange(depth)
    starts = np.column_stack([np.ones(count, dtype=bool), breaks])
    ends = np.column_stack([breaks, np.ones(count, dtype=bool)])
    first = np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, columns, depth - 1)[:, ::-1], axis=1)[:, ::-1]
    return first, last


def _rest_mass(steps: StoredSteps, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (S,) bounds on the sum of (p / p_top) ** (1 / T) over the tokens that were not recorded.

    Known are the sum of their p, and that each p is at most that of the last alternative. p ** s is convex
    for s > 1 and concave for s < 1, so the sum is between that of evenly spread mass and that of mass on as
    few tokens as possible.
    """
    top = np.exp(steps.logprobs[:, 0])
    low, high = (mass / top for mass in steps.rest_mass)
    power = 1.0 / temperature
    if power == 1.0:
        return low, high
    count = steps.rest_count
    largest = np.exp(steps.rest_max_logprob - steps.logprobs[:, 0])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if power > 1.0:
            spread = np.where(np.isfinite(count) & (count > 0), count ** (1 - power) * low**power, 0.0)
            packed = high * largest ** (power - 1)
            return spread, np.where(high > 0, packed, 0.0)
        packed = np.where((low > 0) & (largest > 0), low * largest ** (power - 1), 0.0)
        spread = np.where(high > 0, count ** (1 - power) * high**power, 0.0)
        return np.minimum(packed, spread), np.minimum(
            spread, np.where(count > 0, count * largest**power, 0.0)
        )
