"""Metrics of how likely the tokens of a sample, or of a whole point, were; all in nats."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

STEP_COLUMNS = ("logprob", "warped_logprob", "entropy", "warped_entropy", "rank", "kept_mass")
"""Columns of tokens.parquet that these metrics are made of."""

SURPRISE_NATS = 3.0
"""How far a surprise lies above the entropy: a token 20 times less likely than a typical one."""


STEP_SUMS = 8
"""Numbers that `step_sums` makes."""


def step_sums(steps: Mapping[str, np.ndarray]) -> np.ndarray:
    """(STEP_SUMS,) float64 sums over some steps; those of samples add up to those of a point.

    Args:
        steps: STEP_COLUMNS, (T,) each.
    """
    column = {name: steps[name].astype(np.float64) for name in STEP_COLUMNS}
    # A token that an impossible step was forced to has an infinite surprisal, which is a surprise too.
    surprises = -column["logprob"] - column["entropy"] > SURPRISE_NATS
    parts = (
        np.ones_like(column["rank"]),
        column["logprob"],
        column["warped_logprob"],
        column["entropy"],
        column["warped_entropy"],
        column["rank"] > 1,
        column["kept_mass"],
        surprises,
    )
    return np.array([part.sum(dtype=np.float64) for part in parts])


def probability_metrics(sums: np.ndarray) -> dict[str, float]:
    """The metrics of the steps that `sums` were made of, as means over them; none without steps.

    - `mean_logprob`, `mean_warped_logprob`: of the chosen tokens.
    - `perplexity`: exp(-mean_logprob) (Jelinek et al. 1977); infinite where a token was impossible.
    - `mean_entropy`, `mean_warped_entropy`: of the distributions, -sum p log p (Shannon 1948).
    - `not_top_share`: of steps whose token was not the likeliest of the raw distribution.
    - `kept_mass`: raw probability of the tokens that truncation left.
    - `surprise_share`: of steps whose surprisal -log p lies more than SURPRISE_NATS above the entropy, which
      is its expectation. Text by people stays near it (Meister et al. 2023, arXiv:2202.00666); the bound is
      our own.
    """
    count = sums[0]
    if not count:
        return {}
    logprob, warped_logprob, entropy, warped_entropy, beaten, kept_mass, surprises = sums[1:] / count
    return {
        "mean_logprob": float(logprob),
        "mean_warped_logprob": float(warped_logprob),
        "perplexity": math.exp(-logprob) if logprob > -700 else math.inf,
        "mean_entropy": float(entropy),
        "mean_warped_entropy": float(warped_entropy),
        "not_top_share": float(beaten),
        "kept_mass": float(kept_mass),
        "surprise_share": float(surprises),
    }
