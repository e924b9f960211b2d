"""Bounds on how far the float32 arithmetic of a real step can differ from ours on the recorded values.

A result is claimed only if it holds for every rounding within these bounds. They assume logits of at most 256
in magnitude (those of language models stay below 150).
"""

from __future__ import annotations

import math

import numpy as np

HALF_ULP = 2.0**-24
"""Relative rounding of one float32 operation."""

LOGITS = 256.0

NEAR = 2
"""At most this many tokens have another logit than a token, but the same logprob."""

UNKNOWN_VOCABULARY = 1 << 18


def score_error(logprobs: np.ndarray, temperature: float) -> np.ndarray:
    """Return bounds on |logprob / T - (logit / T - constant)|: the logprob was rounded, and so is x / T."""
    size = np.where(np.isfinite(logprobs), np.abs(logprobs), 0.0)
    divided = 0.0 if temperature == 1.0 else LOGITS * HALF_ULP
    return (size * 2 * HALF_ULP + 4 * HALF_ULP + divided) / temperature


def tie_distance(temperature: float) -> float:
    """Return how far apart the logprobs of equal scores can be: x / T can round two logits to one number."""
    return 0.0 if temperature == 1.0 else 2 * LOGITS * HALF_ULP + 1e-6


def raw_mass_error(vocabulary: float) -> float:
    """Return a bound on the error of a sum of recorded probabilities, which float32 sums rounded before."""
    size = vocabulary if math.isfinite(vocabulary) else UNKNOWN_VOCABULARY
    return 1e-6 + 4e-8 * math.sqrt(size)


def mass_error(vocabulary: float, temperature: float) -> float:
    """Return a bound on the error of a cumulative probability, as truncations compute it."""
    scale = 1.0 if temperature == 1.0 else 1.0 + 2.0 / temperature
    return raw_mass_error(vocabulary) + LOGITS * HALF_ULP * scale
