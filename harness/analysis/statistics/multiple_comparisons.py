"""Many comparisons at once: which differences are told, and in which words."""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness.analysis.metric_catalog import Better

LEVEL = 0.05
"""A corrected p-value below it is told as a difference."""

NO_DIFFERENCE: Literal["no significant difference"] = "no significant difference"
"""The word of a difference that is not significant."""


def holm(p: np.ndarray) -> np.ndarray:
    """Corrected p-values by Holm's step-down method (1979, Scandinavian Journal of Statistics 6:65).

    With them, at most 5% of sweeps show any word that is luck. That is what a reader who looks at a table and
    takes each mark for real must be able to count on (the rate of Benjamini and Hochberg lets a share of all
    marks be luck), and it needs no assumption about how metrics and points hang together.

    Args:
        p: (m,) those of all comparisons; NaN where there was none to make, which stays NaN.
    """
    p = np.asarray(p, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected


def word_of(mean: float, p: float | None) -> Literal["higher", "lower", "no significant difference"]:
    """The word for a difference with this corrected p-value; NO_DIFFERENCE without one."""
    if p is None or not p < LEVEL or mean == 0:
        return NO_DIFFERENCE
    return "higher" if mean > 0 else "lower"


def verdict_of(word: str, better: Better | None) -> Literal["better", "worse"] | None:
    """What the word means where one direction is better; None where none is, or nothing is told."""
    if better is None or word == NO_DIFFERENCE:
        return None
    return "better" if word == better else "worse"
