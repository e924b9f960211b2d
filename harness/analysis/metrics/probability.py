"""Metrics of how likely the tokens of a sample, or of a whole point, were; all in nats."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

STEP_COLUMNS = ("logprob", "warped_logprob", "entropy", "warped_entropy", "rank", "kept_mass")
"""Columns of tokens.parquet that these metrics are made of."""

SURPRISE_NATS = 3.0
"""How far a surprise's surprisal is above the entropy: a token 20 times less likely than a typical one."""

_MEANS = (
    "mean_logprob", "mean_warped_logprob", "mean_entropy", "mean_warped_entropy", "not_top_share",
    "kept_mass", "surprise_share",
)  # fmt: skip


def no_steps() -> np.ndarray:
    """Return the sums over no steps at all."""
    return np.zeros((2, len(_MEANS)))


def step_sums(steps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return (2, 7) float64 counts of known values and their sums; those of samples add up to a point's.

    Args:
        steps: STEP_COLUMNS, (T,) each; NaN, or no column at all, where the backend does not report it.
    """
    length = max(map(len, steps.values()), default=0)
    logprob, warped_logprob, entropy, warped_entropy, rank, kept_mass = (
        np.asarray(steps.get(name, np.full(length, np.nan)), np.float64) for name in STEP_COLUMNS
    )
    # A token that an impossible step was forced to has an infinite surprisal, which is a surprise too.
    not_top, surprise = _share(rank, 1), _share(-logprob - entropy, SURPRISE_NATS)
    values = np.stack([logprob, warped_logprob, entropy, warped_entropy, not_top, kept_mass, surprise])
    known = ~np.isnan(values)
    return np.stack([known.sum(1), np.where(known, values, 0.0).sum(1)])


def _share(values: np.ndarray, threshold: float) -> np.ndarray:
    """Return 1 where a value is above the threshold, else 0; NaN stays NaN."""
    return np.where(np.isnan(values), np.nan, values > threshold)


def probability_metrics(sums: np.ndarray) -> dict[str, float]:
    """Return the means over the steps of `step_sums`; without those of which no value is known.

    - `mean_logprob`, `mean_warped_logprob`: of the chosen tokens.
    - `perplexity`: exp(-mean_logprob) (Jelinek et al. 1977); infinite where a token was impossible.
    - `mean_entropy`, `mean_warped_entropy`: of the distributions, -sum p log p (Shannon 1948).
    - `not_top_share`: of steps whose token was not the likeliest of the raw distribution.
    - `kept_mass`: raw probability of the tokens that truncation left.
    - `surprise_share`: of steps whose surprisal -log p is more than SURPRISE_NATS above the entropy, which
      is its expectation. Text by people stays near it (Meister et al. 2023, arXiv:2202.00666); the threshold
      is our own.
    """
    metrics = {name: float(total / count) for name, count, total in zip(_MEANS, *sums, strict=True) if count}
    if "mean_logprob" in metrics:
        logprob = metrics["mean_logprob"]
        metrics["perplexity"] = math.exp(-logprob) if logprob > -700 else math.inf
    return metrics
