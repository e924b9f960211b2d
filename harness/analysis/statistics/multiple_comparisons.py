"""Many comparisons at once: which differences are significant, and their words."""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness.analysis.metric_catalog import Better

Word = Literal["higher", "lower", "no significant difference"]
Verdict = Literal["better", "worse"]

LEVEL = 0.05
"""A difference is significant where its corrected p-value is below it."""

NO_DIFFERENCE: Word = "no significant difference"
"""The word of a difference that is not significant."""


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected by Holm's step-down method (1979, Scandinavian Journal of Statistics 6:65).

    With them, at most 5% of sweeps show any difference that is due to chance. That is what a reader who takes
    each mark of a table for real must be able to count on (Benjamini and Hochberg's rate lets a share of all
    marks be chance), and it needs no assumption about how metrics and points are correlated.

    Args:
        p: (m,) of all comparisons; NaN, which stays NaN, where there is none.
    """
    p = np.asarray(p, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected


def word_of(mean: float, p: float | None) -> Word:
    """Return the word for a difference with this corrected p-value; NO_DIFFERENCE without one."""
    if p is None or not p < LEVEL or mean == 0:
        return NO_DIFFERENCE
    return "higher" if mean > 0 else "lower"


def verdict_of(word: Word, better: Better | None) -> Verdict | None:
    """Return what the word means where one direction is better; None without one or without a difference."""
    if better is None or word == NO_DIFFERENCE:
        return None
    return "better" if word == better else "worse"
