"""chrF of every pair of texts, as sacrebleu computes it, with the n-grams of each text counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

ORDER = 6
BETA = 2

LONGEST = 20_000
"""Characters of a text that are compared; an output is shorter, unless it was made to be long."""


def chrf_matrix(texts: Sequence[str]) -> np.ndarray:
    """Return (n, n) sacrebleu's sentence chrF2 of text i with text j as its reference, 0 to 100.

    It is not symmetric: recall counts four times as much as precision (Popović 2015).
    """
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    grams = [[_grams(text[:LONGEST], order) for order in range(1, ORDER + 1)] for text in distinct]
    totals = np.array([[sum(counts.values()) for counts in some] for some in grams], np.float64)
    size = len(grams)
    matches = np.zeros((size, size, ORDER))
    for i in range(size):
        for j in range(i, size):
            matches[i, j] = matches[j, i] = [_common(a, b) for a, b in zip(grams[i], grams[j], strict=True)]
    index = [distinct[text] for text in texts]
    return _f_scores(matches, totals)[np.ix_(index, index)]


def _grams(text: str, order: int) -> Counter[str]:
    """Return how often each character n-gram occurs, white space aside."""
    letters = "".join(text.split())
    return Counter(letters[i : i + order] for i in range(len(letters) - order + 1))


def _common(first: Counter[str], second: Counter[str]) -> int:
    """Return how many n-grams two texts have in common, each as often as in the text that has it less."""
    return sum(min(first[gram], second[gram]) for gram in first.keys() & second.keys())


def _f_scores(matches: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return F2 of the precision and recall averaged over the orders that both texts have."""
    ours, theirs = totals[:, None], totals[None, :]
    both = (ours > 0) & (theirs > 0)
    orders = np.maximum(both.sum(axis=2), 1)
    precision = np.where(both, matches / np.maximum(ours, 1), 0.0).sum(axis=2) / orders
    recall = np.where(both, matches / np.maximum(theirs, 1), 0.0).sum(axis=2) / orders
    weight = BETA**2
    scale = weight * precision + recall
    return 100 * (1 + weight) * precision * recall / np.where(scale > 0, scale, 1.0)
