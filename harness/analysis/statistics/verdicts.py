"""The words for a difference: whether it is significant, and what that means."""

from __future__ import annotations

from typing import Literal

from harness.analysis.metric_catalog import Better
from harness.analysis.statistics.simultaneous import LEVEL

Word = Literal["higher", "lower", "no significant difference"]
Verdict = Literal["better", "worse"]

NO_DIFFERENCE: Word = "no significant difference"
"""The word of a difference that is not significant."""


def word_of(mean: float, p: float | None) -> Word:
    """Return the word for a difference with this simultaneous p-value; NO_DIFFERENCE without one."""
    if p is None or not p < LEVEL or mean == 0:
        return NO_DIFFERENCE
    return "higher" if mean > 0 else "lower"


def verdict_of(word: Word, better: Better | None) -> Verdict | None:
    """Return what the word means where one direction is better; None without one or without a difference."""
    if better is None or word == NO_DIFFERENCE:
        return None
    return "better" if word == better else "worse"
