"""A stored sample walked step by step, as far as another strategy would have gone along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from harness.analysis.replay.choices import Choices, Outcome, Reason, Seeds, choose
from harness.analysis.replay.kept_set import CUT, KEPT, UNKNOWN, Kept, truncate
from harness.analysis.replay.stored_steps import StoredSteps
from harness.analysis.replay.warp import Warp


@dataclass(frozen=True)
class Replayer:
    """A strategy that is asked about, and what made the samples it is asked of.

    Attributes:
        new: the strategy.
        old: the one that made the samples; None if replay does not know it.
        seeds: of both.
    """

    new: Warp
    old: Warp | None
    seeds: Seeds

    def __call__(self, steps: StoredSteps) -> Replayed:
        """Replay every step by itself, as if the text had come that far."""
        kept = truncate(steps, self.new)
        choices = choose(steps, kept, self.new, self.old, self.seeds)
        return Replayed(steps, self.new, kept, choices)


@dataclass(frozen=True)
class Replayed:
    """S steps and what another strategy would have made of each."""

    steps: StoredSteps
    warp: Warp
    kept: Kept
    choices: Choices

    def warped_logprob(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(S,) bounds on the warped logprob of one of each step's `ids`, given by its column."""
        rows = np.arange(len(self.steps))
        ratio, state = self.kept.ratio[rows, columns], self.kept.tokens[rows, columns]
        low = np.where(state == KEPT, ratio - self.kept.high, -np.inf)
        high = np.where(state == CUT, -np.inf, np.minimum(ratio - self.kept.low, 0.0))
        return np.minimum(low, high), high

    def count(self) -> tuple[np.ndarray, np.ndarray]:
        """(S,) bounds on how many tokens are kept; float64, infinite where nothing is known."""
        sure = (self.kept.tokens == KEPT).sum(1).astype(np.float64)
        maybe = (self.kept.tokens >= UNKNOWN).sum(1).astype(np.float64)
        rest = self.steps.rest_tokens
        low = sure + np.where((self.kept.rest == KEPT) & np.isfinite(rest), rest, 0.0)
        return low, maybe + np.where(self.kept.rest >= UNKNOWN, rest, 0.0)


@dataclass(frozen=True)
class ReplayedSample:
    """What a strategy would have made of one sample.

    Attributes:
        prompt_id, sample: which.
        steps: tokens of the sample.
        same: steps from the first on whose choice is certainly the same.
        changes_at: the first step whose choice is certainly another; the text parts there at the latest.
            None if there is none.
        undecided_at: the first step before that which cannot be decided; None if there is none.
        reason: why it cannot be.
        token, other: the stored token's id at `changes_at`, and the one that would have been chosen; None
            where that is not known.
        logprob: raw logprob of both, where they are known.
        warped_logprob: bounds on the logprob of both under the strategy.
        mean_logprob: bounds on the mean logprob of the sample's tokens under the strategy; -inf where it
            (perhaps) could not have made them.
        kept: bounds on the mean number of tokens that it leaves.
    """

    prompt_id: str
    sample: int
    steps: int
    same: int
    changes_at: int | None
    undecided_at: int | None
    reason: Reason
    token: int | None
    other: int | None
    logprob: tuple[float, float | None]
    warped_logprob: tuple[tuple[float, float], tuple[float, float] | None]
    mean_logprob: tuple[float, float]
    kept: tuple[float, float]


def summaries(replayed: Iterable[Replayed]) -> Iterator[ReplayedSample]:
    """Each sample of some replayed steps; a sample's steps are all in one of them."""
    for part in replayed:
        steps = part.steps
        low, high = part.warped_logprob(steps.place)
        fewest, most = part.count()
        starts = np.flatnonzero(steps.position == 0)
        for start, end in zip(starts, [*starts[1:], len(steps)], strict=True):
            own = slice(int(start), int(end))
            outcome = part.choices.outcome[own]
            changes_at = _first(outcome == Outcome.CHANGED)
            undecided = _first(outcome[:changes_at] == Outcome.UNDECIDED)
            ends = [at for at in (changes_at, undecided) if at is not None]
            at = None if changes_at is None else int(start) + changes_at
            yield ReplayedSample(
                prompt_id=steps.prompt_id[int(start)],
                sample=int(steps.sample[start]),
                steps=len(outcome),
                same=min(ends, default=len(outcome)),
                changes_at=changes_at,
                undecided_at=undecided,
                reason=Reason.NONE if undecided is None else Reason(int(part.choices.reason[own][undecided])),
                **_parting(part, at),
                mean_logprob=(float(low[own].mean()), float(high[own].mean())),
                kept=(float(fewest[own].mean()), float(most[own].mean())),
            )


def _parting(part: Replayed, at: int | None) -> dict:
    """The fields of the step at which a sample parts."""
    none = (-np.inf, -np.inf)
    if at is None:
        return {"token": None, "other": None, "logprob": (-np.inf, None), "warped_logprob": (none, None)}
    steps = part.steps

    def bounds(column: int) -> tuple[float, float]:
        columns = np.full(len(steps), column)
        low, high = part.warped_logprob(columns)
        return float(low[at]), float(high[at])

    token = int(part.choices.token[at])
    place = int(steps.place[at])
    found = np.flatnonzero((steps.ids[at] == token) & (token >= 0))
    other = int(found[0]) if len(found) else None
    return {
        "token": int(steps.chosen[at]),
        "other": token if other is not None else None,
        "logprob": (
            float(steps.logprobs[at, place]),
            float(steps.logprobs[at, other]) if other is not None else None,
        ),
        "warped_logprob": (bounds(place), bounds(other) if other is not None else None),
    }


def _first(where: np.ndarray) -> int | None:
    places = np.flatnonzero(where)
    return int(places[0]) if len(places) else None
