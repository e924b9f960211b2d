"""Stored samples replayed step by step, up to where another strategy would have chosen another token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.replay.choices import Choices, Outcome, Reason, choose
from harness.analysis.replay.kept_set import KEPT, REMOVED, UNKNOWN, KeptSet, truncate
from harness.analysis.replay.stored_steps import StoredSteps
from harness.analysis.replay.warp import Warp
from harness.store.stored_point import StoredPoint
from harness.store.token_table import TokenVocabulary, read_samples


def replay_steps(steps: StoredSteps, new: Warp, old: Warp | None, seed: int) -> ReplayedSteps:
    """Replay each step by itself, as if the sample had come that far unchanged.

    Args:
        steps: of the point.
        new: the other strategy.
        old: the strategy of the point; None if replay does not support it.
        seed: of the noise of both.
    """
    kept = truncate(steps, new)
    return ReplayedSteps(steps, kept, choose(steps, kept, new, old, seed))


@dataclass(frozen=True)
class ReplayedSteps:
    """S steps, and what another strategy would have done at each."""

    steps: StoredSteps
    kept: KeptSet
    choices: Choices

    def warped_logprob(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (S,) bounds on the warped logprob of one of each step's `ids`, given by its column."""
        rows, (mass_low, mass_high) = np.arange(len(self.steps)), self.kept.log_mass
        log_weight, state = self.kept.log_weight[rows, columns], self.kept.tokens[rows, columns]
        low = np.where(state == KEPT, log_weight - mass_high, -np.inf)
        high = np.where(state == REMOVED, -np.inf, np.minimum(log_weight - mass_low, 0.0))
        return np.minimum(low, high), high

    def kept_count(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (S,) bounds on how many tokens are kept; float64, infinite where nothing is known."""
        kept = (self.kept.tokens == KEPT).sum(1).astype(np.float64)
        possible = (self.kept.tokens >= UNKNOWN).sum(1).astype(np.float64)
        rest = self.steps.rest_count
        low = kept + np.where((self.kept.rest == KEPT) & np.isfinite(rest), rest, 0.0)
        return low, possible + np.where(self.kept.rest >= UNKNOWN, rest, 0.0)

    def samples(self) -> Iterator[ReplayedSample]:
        """Yield the result of each sample."""
        steps, choices = self.steps, self.choices
        low, high = self.warped_logprob(steps.chosen_column)
        fewest, most = self.kept_count()
        hits = (steps.ids == choices.token[:, None]) & (choices.token >= 0)[:, None]
        other_known, other = hits.any(1), hits.argmax(1)
        other_low, other_high = self.warped_logprob(other)
        for index, (prompt_id, sample) in enumerate(zip(steps.prompt_ids, steps.samples, strict=True)):
            start, end = int(steps.offsets[index]), int(steps.offsets[index + 1])
            rows = slice(start, end)
            outcome = choices.outcome[rows]
            changes_at = _first(outcome == Outcome.CHANGED)
            undecided_at = _first(outcome[:changes_at] == Outcome.UNDECIDED)
            change: dict[str, Any] = {}
            if changes_at is not None:
                row = start + changes_at
                known = bool(other_known[row])
                logprob = steps.logprobs[row].tolist()
                change = {
                    "token": int(steps.chosen[row]),
                    "other": int(choices.token[row]) if known else None,
                    "logprob": (logprob[steps.chosen_column[row]], logprob[other[row]] if known else None),
                    "warped_logprob": (
                        (float(low[row]), float(high[row])),
                        (float(other_low[row]), float(other_high[row])) if known else None,
                    ),
                }
            yield ReplayedSample(
                prompt_id=prompt_id,
                sample=int(sample),
                steps=end - start,
                same=min((at for at in (changes_at, undecided_at) if at is not None), default=end - start),
                changes_at=changes_at,
                undecided_at=undecided_at,
                reason=Reason(0 if undecided_at is None else int(choices.reason[start + undecided_at])),
                mean_logprob=(float(low[rows].mean()), float(high[rows].mean())),
                kept=(float(fewest[rows].mean()), float(most[rows].mean())),
                **change,
            )


@dataclass(frozen=True)
class ReplayedSample:
    """How one sample would be under another strategy.

    Attributes:
        steps: its number of tokens.
        same: steps from the first on whose choice is certainly the same.
        changes_at: the first step whose choice is certainly another: the texts diverge there at the latest.
        undecided_at: the first undecided step before that, and `reason` why it is undecided.
        mean_logprob: bounds on the mean logprob of the sample's tokens under the strategy; -inf if it
            (perhaps) could not have generated them.
        kept: bounds on the mean number of tokens kept.
        token, other: ids of the stored token at `changes_at`, and of the one chosen instead, if known.
        logprob, warped_logprob: raw logprobs of both, and bounds on those under the strategy.
    """

    prompt_id: str
    sample: int
    steps: int
    same: int
    changes_at: int | None
    undecided_at: int | None
    reason: Reason
    mean_logprob: tuple[float, float]
    kept: tuple[float, float]
    token: int | None = None
    other: int | None = None
    logprob: tuple[float, float | None] = (-math.inf, None)
    warped_logprob: tuple[tuple[float, float], tuple[float, float] | None] = ((-math.inf, -math.inf), None)


def summarize(samples: Sequence[ReplayedSample]) -> dict[str, Any]:
    """Return counts over all samples, and bounds on the means over all their steps.

    `impossible` counts samples that the strategy could not have generated; `mean_logprob` is of the others.
    """
    possible = [sample for sample in samples if sample.mean_logprob[1] > -math.inf]
    return {
        "samples": len(samples),
        "steps": sum(sample.steps for sample in samples),
        "same": sum(sample.same == sample.steps for sample in samples),
        "changed": sum(sample.changes_at is not None for sample in samples),
        "undecided": sum(sample.undecided_at is not None for sample in samples),
        "same_steps": sum(sample.same for sample in samples),
        "impossible": len(samples) - len(possible),
        "mean_logprob": _mean(possible, [sample.mean_logprob for sample in possible]),
        "kept": _mean(samples, [sample.kept for sample in samples]),
    }


def changed_texts(
    stored: StoredPoint, samples: Sequence[ReplayedSample]
) -> list[tuple[str, str | None] | None]:
    """Return for each sample the texts of `token` and `other`; None if it does not change.

    Args:
        stored: the point.
        samples: all of its samples, replayed.
    """
    vocabulary = TokenVocabulary()
    tables = read_samples(stored, "tokens", ["token", "top_ids", "top_tokens"], vocabulary=vocabulary)
    found: list[tuple[str, str | None] | None] = []
    for sample, table in zip(samples, tables, strict=True):
        at = sample.changes_at
        if at is None:
            found.append(None)
            continue
        tops = [vocabulary.texts[index] for index in table["top_tokens"][at]]
        texts: dict[int | None, str] = dict(zip(table["top_ids"][at].tolist(), tops, strict=True))
        # The column `token` has what a token added to its text, the alternatives have it by itself.
        text = texts.get(sample.token, vocabulary.texts[table["token"][at]])
        found.append((text, texts.get(sample.other)))
    return found


def _mean(samples: Sequence[ReplayedSample], bounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return bounds on the mean over all steps, from those on each sample's mean."""
    steps = np.array([sample.steps for sample in samples], dtype=np.float64)
    low, high = (steps @ np.reshape(bounds, (-1, 2)) / max(steps.sum(), 1.0)).tolist()
    return low, high


def _first(where: np.ndarray) -> int | None:
    indices = np.flatnonzero(where)
    return int(indices[0]) if len(indices) else None
