"""The outputs of a sweep's points for the same prompt: how early they diverge, and how similar they are."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, zip_longest

import numpy as np

from harness.analysis.metrics.bleu import self_bleu
from harness.store.stored_point import StoredPoint

MOST_SCORED = 2_500
"""Distinct texts that are scored with BLEU, about 0.6 ms each; prompts after these have no self-BLEU."""


@dataclass(frozen=True)
class TextOverlap:
    """How much the points' outputs have in common, by prompt id.

    Attributes:
        disagreement: 0 where all points generated the same text, 1 where all diverge at the first character;
            largest first.
        self_bleu: mean BLEU of the first sample and those of the other points, 0 to 100.
        unscored: number of prompts without self-BLEU because there are too many texts.
    """

    disagreement: dict[str, float]
    self_bleu: dict[str, float]
    unscored: int


def text_overlap(points: Sequence[StoredPoint], most_scored: int = MOST_SCORED) -> TextOverlap:
    """Return the overlap of the points' outputs, which are read once, in step; memory stays flat.

    A prompt's disagreement is the mean over its sample indices of that of the texts with that index; prompts
    of a single point are left out.
    """
    disagreements: dict[str, list[float]] = defaultdict(list)
    scores: dict[str, float] = {}
    unscored = set()
    for prompt_id, sample, texts in _read_in_step(points):
        disagreements[prompt_id].append(disagreement(texts))
        if sample:
            continue
        most_scored -= len(set(texts))
        if most_scored < 0:
            unscored.add(prompt_id)
        elif math.isfinite(score := mean_self_bleu(texts)):
            scores[prompt_id] = score
    means = {prompt_id: sum(shares) / len(shares) for prompt_id, shares in disagreements.items()}
    ranked = dict(sorted(means.items(), key=lambda item: -item[1]))
    return TextOverlap(ranked, scores, len(unscored))


def disagreement(texts: Sequence[str]) -> float:
    """Return the mean over pairs of texts of the share of the longer one after their common prefix.

    0 when all are the same, 1 when no two have a common prefix. Texts are compared character by character, so
    that models with different tokenizers are comparable.
    """
    count = Counter(texts)
    ordered = sorted(count)  # of sorted texts, the common prefix of two is the shortest between them
    multiplicity = np.array([count[text] for text in ordered], dtype=np.float64)
    lengths = np.array([len(text) for text in ordered], dtype=np.float64)
    neighbours = np.array([_common_prefix(*pair) for pair in pairwise(ordered)])
    total = 0.0
    for i in range(len(ordered) - 1):
        common = np.minimum.accumulate(neighbours[i:])
        longer = np.maximum(lengths[i], lengths[i + 1 :])
        total += multiplicity[i] * float(((1 - common / longer) * multiplicity[i + 1 :]).sum())
    pairs = len(texts) * (len(texts) - 1) / 2
    return float(total / pairs) if pairs else 0.0


def _common_prefix(text: str, other: str) -> int:
    """Return the length of the common prefix, by bisection: comparing slices is fast."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if text[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def mean_self_bleu(texts: Sequence[str]) -> float:
    """Return the mean over texts of the BLEU of each and all others, by `self_bleu`.

    A text that occurs twice scores 100. NaN where fewer than two texts have words.
    """
    counts = Counter(text for text in texts if text.strip())
    if counts.total() < 2:
        return math.nan
    scores = zip(self_bleu(list(counts)), counts.values(), strict=True)
    return sum(100.0 * count if count > 1 else score for score, count in scores) / counts.total()


def _read_in_step(points: Sequence[StoredPoint]) -> Iterator[tuple[str, int, list[str]]]:
    """Yield (prompt id, sample, texts of the points that have it), where at least two points have it.

    The points are read in step, a row group at a time. Points of one prompt set have its prompts in the same
    order, so that a text soon meets the others; what only some points have comes at the end.
    """
    waiting: dict[tuple[str, int], list[str]] = defaultdict(list)
    for batches in zip_longest(*map(_texts, points), fillvalue=()):
        for prompt_id, sample, text in chain.from_iterable(batches):
            texts = waiting[prompt_id, sample]
            texts.append(text)
            if len(texts) == len(points) > 1:
                yield prompt_id, sample, waiting.pop((prompt_id, sample))
    for (prompt_id, sample), texts in waiting.items():
        if len(texts) > 1:
            yield prompt_id, sample, texts


def _texts(point: StoredPoint) -> Iterator[list[tuple[str, int, str]]]:
    for table in point.row_groups("generations", ["prompt_id", "sample", "output"]):
        yield list(zip(*(column.to_pylist() for column in table.columns), strict=True))
