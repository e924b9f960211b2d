"""The columns of a point that replay shows to be the same as a stored one, where all of them are exact."""

from __future__ import annotations

import numpy as np

from harness.analysis.replay.choices import Outcome, choose
from harness.analysis.replay.kept_set import KEPT, Kept, truncate
from harness.analysis.replay.replayer import Replayer
from harness.analysis.replay.stored_steps import StoredSteps


def taken_columns(replayer: Replayer, steps: StoredSteps) -> dict[str, np.ndarray] | None:
    """What changes of tokens.parquet when the strategy is another and every choice the same.

    Returns:
        `warped_logprob`, `warped_entropy`, `kept_mass` (S,) float32, `kept` (S,) int32 and
        `top_warped_logprobs` (S, k) float32; those that are the stored ones are left out. None if a choice
        may differ or if one of them is not exactly known.
    """
    new, old = replayer.new, replayer.old
    kept = truncate(steps, new)
    # The raw distribution, and what was kept is what there is.
    raw = new.neutral and old is not None and not old.truncates
    if not (new == old or raw or kept.known.all()):
        return None
    outcome = choose(steps, kept, new, old, replayer.seeds).outcome
    if not (outcome == Outcome.SAME).all():
        return None
    if new == old:
        return {}
    return _raw(steps) if raw else _renormalised(steps, kept)


def _raw(steps: StoredSteps) -> dict[str, np.ndarray]:
    """Nothing is warped; `kept` stays what it was."""
    return {
        "warped_logprob": steps.chosen_logprob.astype(np.float32),
        "warped_entropy": steps.entropy.astype(np.float32),
        "kept_mass": np.ones(len(steps), dtype=np.float32),
        "top_warped_logprobs": steps.top_logprobs.astype(np.float32),
    }


def _renormalised(steps: StoredSteps, kept: Kept) -> dict[str, np.ndarray]:
    """Every token that is kept is known by name, so the warped distribution is."""
    left = kept.tokens == KEPT
    log_q = np.where(left, kept.ratio - kept.low[:, None], -np.inf)
    q = np.exp(log_q)
    mass = np.where(left, np.exp(steps.logprobs), 0.0).sum(1)
    return {
        "warped_logprob": log_q[np.arange(len(steps)), steps.place].astype(np.float32),
        "warped_entropy": -(q * np.where(left, log_q, 0.0)).sum(1).astype(np.float32),
        "kept": left.sum(1).astype(np.int32),
        "kept_mass": np.minimum(mass, 1.0).astype(np.float32),
        "top_warped_logprobs": log_q[:, : steps.depth].astype(np.float32),
    }
