"""How unlikely a detector's count is in a text that has no such watermark: z-scores and p-values.

All laws are those of pseudo-random bits or numbers that are independent for different contexts; so the
detectors count each context, or n-gram, once.
"""

from __future__ import annotations

import math

import numpy as np

DETECTED = 0.01
"""The p-value below which a text counts as marked: the false positives that one accepts."""


def kgw_values(green: int, total: int, ratio: float) -> dict[str, float]:
    """Return the scores of a KGW watermark: of `total` n-grams `green` end with a green token.

    z = (green - ratio total) / sqrt(total ratio (1 - ratio)), as transformers' WatermarkDetector has it; the
    p-value is the tail of the binomial law.
    """
    from scipy.stats import binom

    if not total:
        return {}
    z = (green - ratio * total) / math.sqrt(total * ratio * (1 - ratio))
    p_value = float(binom.sf(green - 1, total, ratio))
    return _values("kgw", z, p_value) | {"kgw_green_share": green / total}


def synthid_values(bits: np.ndarray) -> dict[str, float]:
    """Return the scores of a SynthID watermark from (T, keys) bits of tokens.

    Without a mark each bit is 0 or 1 with probability 1/2, so their weighted mean has the mean 1/2 and the
    variance sum(w^2) / (4 T) with weights w that sum to 1; the p-value is that of the normal law. Weights
    fall linearly from 10 to 1 over the keys, as in transformers: the first rounds mark the most.
    """
    from scipy.stats import norm

    count, keys = bits.shape
    if not count:
        return {}
    weights = np.linspace(10.0, 1.0, keys)
    weights /= weights.sum()
    weighted = float((bits * weights).sum(1).mean())
    z = (weighted - 0.5) / math.sqrt(float(np.square(weights).sum()) / (4 * count))
    scores = {"synthid_mean_g": float(bits.mean()), "synthid_weighted_g": weighted}
    return _values("synthid", z, float(norm.sf(z))) | scores


def gumbel_values(scores: np.ndarray) -> dict[str, float]:
    """Return the scores of a Gumbel watermark from -ln(1 - u) of T tokens.

    Without a mark they are exponential: their sum has the Gamma law with shape T, mean and variance T.
    """
    from scipy.stats import gamma

    count, total = len(scores), float(scores.sum())
    if not count:
        return {}
    z = (total - count) / math.sqrt(count)
    return _values("gumbel", z, float(gamma.sf(total, count))) | {"gumbel_mean_score": total / count}


def _values(name: str, z: float, p_value: float) -> dict[str, float]:
    return {
        f"{name}_z": z,
        f"{name}_p_value": p_value,
        f"{name}_detected": float(p_value < DETECTED),
    }
