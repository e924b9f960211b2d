"""Which token a strategy would have chosen at recorded steps, with the luck that the sample had."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from harness.analysis.replay.kept_set import CUT, KEPT, UNKNOWN, Kept
from harness.analysis.replay.rounding import mass_error, score_error
from harness.analysis.replay.stored_steps import StoredSteps
from harness.analysis.replay.warp import Warp, nested
from harness.decoding.gumbel_numpy import gumbel, noise_key, step_states

_AT_ONCE = 1 << 22
_HASHES = 1 << 25
"""Noise is computed for whole vocabularies only where that may decide, and at most this often in all."""

_FAR = np.array(-100.0)
"""A logprob below that of any token that could win; its rounding is the greatest that matters."""


class Outcome(IntEnum):
    """What became of a choice."""

    SAME = 0
    CHANGED = 1
    UNDECIDED = 2


class Reason(IntEnum):
    """Why a choice cannot be decided."""

    NONE = 0
    BEYOND = 1
    BORDER = 2
    CLOSE = 3

    def told(self, depth: int) -> str:
        """In words."""
        return {
            Reason.NONE: "",
            Reason.BEYOND: f"a token beyond the {depth} recorded might be chosen",
            Reason.BORDER: "whether a token is kept is not told by what is recorded",
            Reason.CLOSE: "two tokens are as good as equal",
        }[self]


@dataclass(frozen=True)
class Seeds:
    """The seed of the luck of the strategy that is asked for, and of the stored sample."""

    new: int
    old: int

    @property
    def same(self) -> bool:
        """Whether both had the same luck."""
        return self.new == self.old


@dataclass(frozen=True)
class Choices:
    """What would have been chosen at S steps.

    Attributes:
        outcome: (S,) of Outcome, against the token that is stored.
        token: (S,) the id that would have been chosen; -1 where that is not known.
        reason: (S,) of Reason.
    """

    outcome: np.ndarray
    token: np.ndarray
    reason: np.ndarray


def choose(steps: StoredSteps, kept: Kept, new: Warp, old: Warp | None, seeds: Seeds) -> Choices:
    """The choices of `new` at the steps of a point that `old` made.

    Args:
        steps: of the point.
        kept: what `new` leaves of them.
        new: the strategy.
        old: the one that made the point; None if replay does not know it.
        seeds: of both.
    """
    if new == old and (not new.draws or seeds.same):
        count = len(steps)
        return Choices(np.zeros(count, np.int8), steps.chosen.copy(), np.zeros(count, np.int8))
    return _drawn(steps, kept, new, old, seeds) if new.draws else _likeliest(steps)


def _likeliest(steps: StoredSteps) -> Choices:
    """Greedy: the first of the alternatives, if no other token is as likely."""
    logp, rows = steps.logprobs, np.arange(len(steps))
    others = logp.copy()
    others[:, 0] = -np.inf
    alone = np.maximum(others.max(1), steps.rest_most) < logp[:, 0]
    loses = logp[rows, steps.place] < logp[:, 0]
    same = alone & (steps.place == 0)
    outcome = np.where(same, Outcome.SAME, np.where(loses, Outcome.CHANGED, Outcome.UNDECIDED))
    reason = np.where(outcome == Outcome.UNDECIDED, Reason.CLOSE, Reason.NONE)
    return Choices(outcome.astype(np.int8), np.where(alone, steps.top_ids[:, 0], -1), reason.astype(np.int8))


def _drawn(steps: StoredSteps, kept: Kept, new: Warp, old: Warp | None, seeds: Seeds) -> Choices:
    """argmax(logprob / T + noise) over what is kept, where nothing unknown can have won."""
    rows, place = np.arange(len(steps)), steps.place
    states = _states(steps, seeds.new)
    noise = gumbel(states[:, None], np.maximum(steps.ids, 0))
    score = steps.logprobs / new.temperature + noise
    error = score_error(steps.logprobs, new.temperature)
    rivals, rest = kept.tokens >= UNKNOWN, kept.rest >= UNKNOWN
    chosen_kept = kept.tokens[rows, place] == KEPT
    told = old if old is not None and old.draws and seeds.same else None
    if told is not None and told.temperature == new.temperature:
        # With the same scores and the same luck, what was kept then lost to the chosen token and does so now.
        beaten = steps.was_kept & (np.arange(score.shape[1]) != place[:, None]) & chosen_kept[:, None]
        rivals &= ~beaten
        rest &= ~(chosen_kept & _rest_was_kept(steps, kept, new, told))
    best = np.where((kept.tokens == KEPT) & rivals, score - error, -np.inf).argmax(1)
    least = score[rows, best] - error[rows, best]
    most = np.where(rivals, score + error, -np.inf)
    chosen_most = most[rows, place]
    most[rows, best] = -np.inf
    clear = (kept.tokens[rows, best] == KEPT) & (most.max(1) < least)
    beaten_now = (kept.tokens[rows, best] == KEPT) & (best != place) & (least > chosen_most)
    changed = (kept.tokens[rows, place] == CUT) | beaten_now

    # Only an unknown token can still be in the way: its noise is known, and how likely it can be at most.
    asked = clear & rest
    hopeless = (~clear & ~changed) | (asked & ~np.isfinite(steps.vocabulary))
    worth = asked & ~hopeless & _up_to_the_end(steps, changed | hopeless)
    rest_wins = asked.copy()
    rest_wins[worth] = _rest_may_win(steps, new, told, states, noise, least, np.flatnonzero(worth))
    decided = clear & ~rest_wins

    token = np.where(decided, steps.ids[rows, best], -1)
    outcome = np.where(
        decided & (best == place),
        Outcome.SAME,
        np.where(changed | (decided & (best != place)), Outcome.CHANGED, Outcome.UNDECIDED),
    )
    unsure = (kept.tokens == UNKNOWN).any(1)
    why = np.where(rest & clear, Reason.BEYOND, np.where(unsure, Reason.BORDER, Reason.CLOSE))
    reason = np.where(outcome == Outcome.UNDECIDED, why, Reason.NONE)
    return Choices(outcome.astype(np.int8), token, reason.astype(np.int8))


def _states(steps: StoredSteps, seed: int) -> np.ndarray:
    """(S,) the state of the luck at each step."""
    key_of: dict[tuple[str, int], int] = {}
    keys = np.empty(len(steps), dtype=np.int64)
    for row, name in enumerate(zip(steps.prompt_id, steps.sample.tolist(), strict=True)):
        if name not in key_of:
            key_of[name] = noise_key(seed, *name)
        keys[row] = key_of[name]
    return step_states(keys, steps.position)


def _rest_was_kept(steps: StoredSteps, kept: Kept, new: Warp, old: Warp) -> np.ndarray:
    """(S,) bool, whether each unrecorded token that `new` keeps was kept by `old`."""
    if not old.truncates:
        return np.ones(len(steps), dtype=bool)
    if not nested(new, old):
        return np.zeros(len(steps), dtype=bool)
    if old.top_p >= 1.0:
        return np.ones(len(steps), dtype=bool)
    # top_p may part tokens that tie, in either way: they would have to hold all between the two borders.
    ties = kept.ratio <= kept.rest_ratio[:, None] + 1e-3
    held = kept.rest_high + np.where(ties, np.exp(kept.ratio), 0.0).sum(1)
    error = 2 * mass_error(steps.vocabulary, new.temperature)
    return held < (old.top_p - new.top_p - error) * np.exp(kept.low)


def _up_to_the_end(steps: StoredSteps, ends: np.ndarray) -> np.ndarray:
    """(S,) bool, the steps of each sample up to the first that ends its replay."""
    begins = steps.position == 0
    begins[:1] = True
    before = np.cumsum(ends) - ends
    return before == np.maximum.accumulate(np.where(begins, before, 0))


def _rest_may_win(
    steps: StoredSteps,
    new: Warp,
    old: Warp | None,
    states: np.ndarray,
    noise: np.ndarray,
    least: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Whether at these steps an unrecorded token can have a score above `least`.

    Its noise is known for every id. Its logprob is at most that of the last alternative, and where all
    tokens were kept when the sample was drawn, so low that it lost to the chosen token then.
    """
    vocabulary = int(steps.vocabulary) if np.isfinite(steps.vocabulary) else 0
    at_once = max(1, _AT_ONCE // max(vocabulary, 1))
    may = np.ones(len(rows), dtype=bool)
    lost = old is not None and not old.truncates
    for start in range(0, min(len(rows), _HASHES // max(vocabulary, 1)), at_once):
        some = rows[start : start + at_once]
        luck = gumbel(states[some, None], np.arange(vocabulary)[None])
        most = np.repeat(steps.rest_most[some, None], vocabulary, axis=1)
        if lost and old is not None:
            place = steps.place[some]
            chosen = steps.chosen_logprob[some]
            error = score_error(chosen, old.temperature) + score_error(_FAR, old.temperature)
            won = chosen / old.temperature + noise[some, place] + error
            most = np.minimum(most, old.temperature * (won[:, None] - luck))
        score = most / new.temperature + luck
        score += score_error(_FAR, new.temperature)
        named = steps.ids[some]
        known = np.where(named < 0, named.max(1, keepdims=True), named)
        np.put_along_axis(score, known, -np.inf, axis=1)
        may[start : start + len(some)] = score.max(1) >= least[some]
    return may
