"""The columns of a point that replay shows to be the same as a stored one, where all of them are exact."""

from __future__ import annotations

import numpy as np

from harness.results.replay.choice import Outcome
from harness.results.replay.kept import KEPT
from harness.results.replay.walk import Replayed, Replayer


def taken_columns(replayer: Replayer, replayed: Replayed) -> dict[str, np.ndarray] | None:
    """What changes of tokens.parquet when the strategy is another and every choice the same.

    Returns:
        `warped_logprob`, `warped_entropy`, `kept_mass` (S,) float32, `kept` (S,) int32 and
        `top_warped_logprobs` (S, k) float32; those that are the stored ones are left out. None if a choice
        may differ or if one of them is not exactly known.
    """
    steps, kept, new, old = replayed.steps, replayed.kept, replayer.new, replayer.old
    if not (replayed.choices.outcome == Outcome.SAME).all():
        return None
    if new == old:
        return {}
    if new.neutral and old is not None and not old.truncates:
        # The warped distribution is the raw one, and what was kept is what there is.
        return {
            "warped_logprob": steps.chosen_logprob.astype(np.float32),
            "warped_entropy": steps.entropy.astype(np.float32),
            "kept_mass": np.ones(len(steps), dtype=np.float32),
            "top_warped_logprobs": steps.top_logprobs.astype(np.float32),
        }
    if not kept.known.all():
        return None
    log_q = np.where(kept.tokens == KEPT, kept.ratio - kept.low[:, None], -np.inf)
    q = np.exp(log_q)
    raw = np.where(kept.tokens == KEPT, np.exp(steps.logprobs), 0.0).sum(1)
    return {
        "warped_logprob": log_q[np.arange(len(steps)), steps.place].astype(np.float32),
        "warped_entropy": -(q * np.where(q > 0, log_q, 0.0)).sum(1).astype(np.float32),
        "kept": (kept.tokens == KEPT).sum(1).astype(np.int32),
        "kept_mass": np.minimum(raw, 1.0).astype(np.float32),
        "top_warped_logprobs": log_q[:, : steps.depth].astype(np.float32),
    }
