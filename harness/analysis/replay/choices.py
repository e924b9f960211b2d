"""Which token a strategy would have chosen at recorded steps, with common random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from harness.analysis.replay.kept_set import KEPT, REMOVED, UNKNOWN, KeptSet
from harness.analysis.replay.rounding import mass_error, score_error
from harness.analysis.replay.stored_steps import StoredSteps
from harness.analysis.replay.warp import Warp, is_stricter
from harness.decoding.gumbel_numpy import gumbel, noise_key, step_states

_NOISE_BLOCK = 1 << 22
_MAX_NOISE = 1 << 25
"""Noise of whole vocabularies is computed only where it may decide, and for this many tokens at most."""

_FAR = np.array(-100.0)
"""A logprob below that of any token that could be chosen; its rounding is the largest that matters."""


class Outcome(IntEnum):
    """How a choice compares with the token that is stored."""

    SAME = 0
    CHANGED = 1
    UNDECIDED = 2


class Reason(IntEnum):
    """Why a choice is undecided."""

    NONE = 0
    UNRECORDED = 1
    THRESHOLD = 2
    TIE = 3

    def describe(self, depth: int) -> str:
        """Return the reason as a phrase; `depth` alternatives were recorded."""
        return {
            Reason.NONE: "",
            Reason.UNRECORDED: f"a token other than the {depth} recorded ones might be chosen",
            Reason.THRESHOLD: "the recorded alternatives do not decide whether a token is kept",
            Reason.TIE: "two tokens are equally likely, to the rounding of float32",
        }[self]


@dataclass(frozen=True)
class Choices:
    """What would have been chosen at S steps.

    Attributes:
        outcome: (S,) of Outcome.
        token: (S,) the id that would have been chosen; -1 if that is unknown.
        reason: (S,) of Reason.
    """

    outcome: np.ndarray
    token: np.ndarray
    reason: np.ndarray


def choose(steps: StoredSteps, kept: KeptSet, new: Warp, old: Warp | None, seed: int) -> Choices:
    """Return the choices that `new` would have made at the steps of a point that `old` generated.

    Args:
        steps: of the point.
        kept: what `new` keeps of them.
        new: the strategy.
        old: the strategy of the point; None if replay does not support it.
        seed: of the Gumbel noise, which both strategies share.
    """
    if new == old:
        count = len(steps)
        return Choices(np.zeros(count, np.int8), steps.chosen.copy(), np.zeros(count, np.int8))
    return _sampled(steps, kept, new, old, seed) if new.draws else _greedy(steps)


def _greedy(steps: StoredSteps) -> Choices:
    """Choose the first alternative, if no other token is as likely."""
    logp, rows = steps.logprobs, np.arange(len(steps))
    others = logp.copy()
    others[:, 0] = -np.inf
    unique = np.maximum(others.max(1), steps.rest_max_logprob) < logp[:, 0]
    loses = logp[rows, steps.chosen_column] < logp[:, 0]
    same = unique & (steps.chosen_column == 0)
    outcome = np.where(same, Outcome.SAME, np.where(loses, Outcome.CHANGED, Outcome.UNDECIDED))
    reason = np.where(outcome == Outcome.UNDECIDED, Reason.TIE, Reason.NONE)
    return Choices(outcome.astype(np.int8), np.where(unique, steps.top_ids[:, 0], -1), reason.astype(np.int8))


def _sampled(steps: StoredSteps, kept: KeptSet, new: Warp, old: Warp | None, seed: int) -> Choices:
    """Choose argmax(logprob / T + noise) over the kept tokens, unless an unknown token may score higher."""
    rows, chosen = np.arange(len(steps)), steps.chosen_column
    states = _noise_states(steps, seed)
    noise = gumbel(states[:, None], np.maximum(steps.ids, 0))
    score = steps.logprobs / new.temperature + noise
    error = score_error(steps.logprobs, new.temperature)
    rivals, rest_rivals = kept.tokens >= UNKNOWN, kept.rest >= UNKNOWN
    chosen_kept = kept.tokens[rows, chosen] == KEPT
    old = old if old is not None and old.draws else None
    if old is not None and old.temperature == new.temperature:
        # With the same scores and noise, what the old strategy kept lost to the chosen token, and still does.
        beaten = steps.was_kept & (np.arange(score.shape[1]) != chosen[:, None]) & chosen_kept[:, None]
        rivals &= ~beaten
        rest_rivals &= ~(chosen_kept & _rest_was_kept(steps, kept, new, old))
    best = np.where((kept.tokens == KEPT) & rivals, score - error, -np.inf).argmax(1)
    best_low = score[rows, best] - error[rows, best]
    high = np.where(rivals, score + error, -np.inf)
    chosen_high = high[rows, chosen]
    high[rows, best] = -np.inf
    best_kept = kept.tokens[rows, best] == KEPT
    clear = best_kept & (high.max(1) < best_low)
    chosen_beaten = best_kept & (best != chosen) & (best_low > chosen_high)
    changed = (kept.tokens[rows, chosen] == REMOVED) | chosen_beaten

    # Only an unrecorded token can still win: its noise is known, and an upper bound on its logprob.
    open_steps = clear & rest_rivals
    needed = open_steps & np.isfinite(steps.vocabulary) & _before_end(steps, changed | ~clear)
    rest_wins = open_steps.copy()
    rest_wins[needed] = _rest_may_win(steps, new, old, states, noise, best_low, np.flatnonzero(needed))
    decided = clear & ~rest_wins

    outcome = np.where(
        decided & (best == chosen),
        Outcome.SAME,
        np.where(changed | (decided & (best != chosen)), Outcome.CHANGED, Outcome.UNDECIDED),
    )
    undecidable = (kept.tokens == UNKNOWN).any(1)
    why = np.where(open_steps, Reason.UNRECORDED, np.where(undecidable, Reason.THRESHOLD, Reason.TIE))
    reason = np.where(outcome == Outcome.UNDECIDED, why, Reason.NONE)
    token = np.where(decided, steps.ids[rows, best], -1)
    return Choices(outcome.astype(np.int8), token, reason.astype(np.int8))


def _noise_states(steps: StoredSteps, seed: int) -> np.ndarray:
    """Return (S,) the state of the noise at each step."""
    keys = [noise_key(seed, *name) for name in zip(steps.prompt_ids, steps.samples, strict=True)]
    return step_states(np.array(keys, dtype=np.int64)[steps.sample_index], steps.position)


def _rest_was_kept(steps: StoredSteps, kept: KeptSet, new: Warp, old: Warp) -> np.ndarray:
    """Return (S,) bool, whether `old` kept each unrecorded token that `new` keeps."""
    stricter = not old.truncates or is_stricter(new, old)
    if not stricter or old.top_p >= 1.0:
        return np.full(len(steps), stricter)
    # top_p may split tokens that tie in any way: they would have to hold all mass between both thresholds.
    ties = kept.log_weight <= kept.rest_log_weight[:, None] + 1e-3
    tied_mass = kept.rest_mass_high + np.where(ties, kept.weight, 0.0).sum(1)
    error = 2 * mass_error(steps.vocabulary, new.temperature)
    return tied_mass < (old.top_p - new.top_p - error) * np.exp(kept.log_mass[0])


def _before_end(steps: StoredSteps, ends: np.ndarray) -> np.ndarray:
    """Return (S,) bool, the steps of each sample up to the first one that ends its replay."""
    ends_before = np.cumsum(ends) - ends
    return ends_before == ends_before[steps.offsets[steps.sample_index]]


def _rest_may_win(
    steps: StoredSteps,
    new: Warp,
    old: Warp | None,
    states: np.ndarray,
    noise: np.ndarray,
    best_low: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Return for each of some steps whether an unrecorded token can have a score of at least `best_low`.

    Its noise is known for every id. Its logprob is at most that of the last alternative; if the old strategy
    kept all tokens, it is also so low that the token lost to the chosen one.
    """
    vocabulary = int(steps.vocabulary) if np.isfinite(steps.vocabulary) else 0
    block_rows = max(1, _NOISE_BLOCK // max(vocabulary, 1))
    may_win = np.ones(len(rows), dtype=bool)
    for start in range(0, min(len(rows), _MAX_NOISE // max(vocabulary, 1)), block_rows):
        block = rows[start : start + block_rows]
        token_noise = gumbel(states[block, None], np.arange(vocabulary)[None])
        logprob_high = np.repeat(steps.rest_max_logprob[block, None], vocabulary, axis=1)
        if old is not None and not old.truncates:
            chosen = steps.chosen_logprob[block]
            error = score_error(chosen, old.temperature) + score_error(_FAR, old.temperature)
            winner = chosen / old.temperature + noise[block, steps.chosen_column[block]] + error
            logprob_high = np.minimum(logprob_high, old.temperature * (winner[:, None] - token_noise))
        score = logprob_high / new.temperature + token_noise
        score += score_error(_FAR, new.temperature)
        recorded = steps.ids[block]
        recorded = np.where(recorded < 0, recorded.max(1, keepdims=True), recorded)
        np.put_along_axis(score, recorded, -np.inf, axis=1)
        may_win[start : start + len(block)] = score.max(1) >= best_low[block]
    return may_win
