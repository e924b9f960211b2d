"""The texts that a sweep's points made of the same prompt: how early they part, and how much they share."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harness.analysis.metrics.bleu import self_bleu
from harness.store.stored_point import StoredPoint

MOST_SCORED = 2_500
"""Different texts that are scored with BLEU, about 0.6 ms each; prompts after those have no self-BLEU."""

_ROWS = 256  # of a point at a time: what is in memory is points x rows texts


@dataclass(frozen=True)
class TextOverlap:
    """What the points' texts have in common, by prompt id.

    Attributes:
        disagreement: 0 where all points made the same text, 1 where all part at once; most first.
        self_bleu: mean BLEU of a first sample against those of the other points, 0 to 100.
        unscored: how many prompts have no self-BLEU because there are so many texts.
    """

    disagreement: dict[str, float]
    self_bleu: dict[str, float]
    unscored: int


def text_overlap(points: Sequence[StoredPoint], most_scored: int = MOST_SCORED) -> TextOverlap:
    """Read the points' texts once, side by side; memory does not grow with the prompts.

    A prompt's disagreement is the mean over its sample indices of that of the texts with that index; prompts
    that only one point has are not told.
    """
    parted: dict[str, list[float]] = defaultdict(list)
    scores: dict[str, float] = {}
    unscored = set()
    for prompt_id, sample, texts in _side_by_side(points):
        parted[prompt_id].append(disagreement(texts))
        if sample:
            continue
        most_scored -= len(set(texts))
        if most_scored < 0:
            unscored.add(prompt_id)
        elif math.isfinite(score := mean_self_bleu(texts)):
            scores[prompt_id] = score
    means = {prompt_id: sum(shares) / len(shares) for prompt_id, shares in parted.items()}
    ranked = dict(sorted(means.items(), key=lambda item: -item[1]))
    return TextOverlap(ranked, scores, len(unscored))


def disagreement(texts: Sequence[str]) -> float:
    """Mean over pairs of texts of the share of the longer one that comes after their common beginning.

    0 when all are the same, 1 when no two begin alike. Texts are compared character by character, so that
    models with different tokenizers can be held against each other.
    """
    count = Counter(texts)
    ordered = sorted(count)  # of sorted texts, the common beginning of two is the shortest between them
    often = np.array([count[text] for text in ordered], dtype=np.float64)
    lengths = np.array([len(text) for text in ordered], dtype=np.float64)
    neighbours = np.array([_in_common(*pair) for pair in pairwise(ordered)])
    total = 0.0
    for place in range(len(ordered) - 1):
        common = np.minimum.accumulate(neighbours[place:])
        longer = np.maximum(lengths[place], lengths[place + 1 :])
        total += often[place] * float(((1 - common / longer) * often[place + 1 :]).sum())
    pairs = len(texts) * (len(texts) - 1) / 2
    return float(total / pairs) if pairs else 0.0


def _in_common(text: str, other: str) -> int:
    """How many characters both begin with; the end is closed in on, slices being compared at once."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if text[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def mean_self_bleu(texts: Sequence[str]) -> float:
    """Mean over texts of the BLEU of each against all others, as `self_bleu` says.

    A text that another is the same as scores 100. NaN where fewer than two texts have words.
    """
    often = Counter(text for text in texts if text.strip())
    if often.total() < 2:
        return math.nan
    scores = self_bleu(list(often))
    told = zip(scores, often.values(), strict=True)
    known = [(100.0 if times > 1 else score, times) for score, times in told]
    return sum(score * times for score, times in known) / sum(times for _, times in known)


def _side_by_side(points: Sequence[StoredPoint]) -> Iterator[tuple[str, int, list[str]]]:
    """(prompt id, sample, texts of the points that have it), once two points at least have it.

    The points are read in step, a few rows at a time. Points of one prompt set hold its prompts in the same
    order, so a text waits for its like no longer than that; what only some points have is told at the end.
    """
    waiting: dict[tuple[str, int], list[str]] = defaultdict(list)
    going = [_texts(point) for point in points]
    while going:
        alive = []
        for rows in going:
            batch = next(rows, None)
            if batch is None:
                continue
            alive.append(rows)
            for prompt_id, sample, text in batch:
                texts = waiting[prompt_id, sample]
                texts.append(text)
                if len(texts) == len(points) > 1:
                    yield prompt_id, sample, waiting.pop((prompt_id, sample))
        going = alive
    for (prompt_id, sample), texts in waiting.items():
        if len(texts) > 1:
            yield prompt_id, sample, texts


def _texts(point: StoredPoint) -> Iterator[list[tuple[str, int, str]]]:
    import pyarrow.parquet as pq

    names = ["prompt_id", "sample", "output"]
    # Read as it goes: a whole column chunk of each point would be all of its texts.
    with pq.ParquetFile(point.path("generations.parquet"), pre_buffer=False, buffer_size=1 << 16) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=names):
            yield list(zip(*(batch.column(name).to_pylist() for name in names), strict=True))
