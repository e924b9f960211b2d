"""The texts that a sweep's points made of the same prompt: how early they part, and how much they share."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from harness.results.store import StoredPoint

MOST_SCORED = 2_500
"""Different texts that are scored with BLEU, about 0.6 ms each; prompts after those have no self-BLEU."""

_ROWS = 256  # of a point at a time: what is in memory is points x rows texts


@dataclass(frozen=True)
class Across:
    """What the points' texts have in common, by prompt id.

    Attributes:
        disagreement: 0 where all points made the same text, 1 where all part at once; most first.
        self_bleu: mean BLEU of a first sample against those of the other points, 0 to 100.
        unscored: how many prompts have no self-BLEU because there are so many texts.
    """

    disagreement: dict[str, float]
    self_bleu: dict[str, float]
    unscored: int


def across(points: Sequence[StoredPoint], most_scored: int = MOST_SCORED) -> Across:
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
    return Across(ranked, scores, len(unscored))


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
    """Mean over texts of the sentence BLEU of each against all others (Zhu et al. 2018, arXiv:1802.01886).

    Tokens, smoothing and formula are those of sacrebleu's `sentence_bleu`. A text that another is the same as
    scores 100. NaN where fewer than two texts have words.
    """
    often = Counter(text for text in texts if text.strip())
    tokens = [str(_tokenizer()(text.rstrip())).split() for text in often]
    if sum(often.values()) < 2:
        return math.nan
    lengths = np.array([len(one) for one in tokens])
    correct, possible = _matches(tokens)
    total = 0.0
    for place, times in enumerate(often.values()):
        if times > 1:
            total += 100.0 * times
            continue
        others = np.delete(lengths, place)
        away = np.abs(others - lengths[place])
        nearest = int(others[away == away.min()].min())
        total += _bleu(correct[:, place], possible[:, place], int(lengths[place]), nearest)
    return total / sum(often.values())


def _matches(texts: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """(4, T) n-grams of each text, n = 1 to 4, that stand in one of the others too, and all of them.

    An n-gram counts as often as it stands in the one of the others that has it most often: of each, the two
    largest counts in one text tell that for all texts.
    """
    known: dict[str, int] = {}
    words = np.array([known.setdefault(word, len(known)) for text in texts for word in text], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    correct, possible = np.zeros((4, len(texts)), dtype=int), np.zeros((4, len(texts)), dtype=int)
    grams = words
    for n in range(1, 5):
        if n > 1:
            _, grams = np.unique(grams[:-1] * len(known) + words[n - 1 :], return_inverse=True)
        whole = owner[: len(grams)] == owner[n - 1 :]  # n-grams that do not run into the next text
        if not whole.any():
            break
        there = grams[whole] * len(texts) + owner[: len(grams)][whole]
        pairs, counts = np.unique(there, return_counts=True)
        gram, text = np.divmod(pairs, len(texts))
        starts = np.flatnonzero(np.diff(gram, prepend=-1))
        group = np.cumsum(np.diff(gram, prepend=-1) > 0) - 1
        most = np.maximum.reduceat(counts, starts)
        at_most = np.flatnonzero(counts == most[group])
        holders = at_most[np.flatnonzero(np.diff(group[at_most], prepend=-1))]
        left = counts.copy()
        left[holders] = 0
        others = most[group]
        others[holders] = np.maximum.reduceat(left, starts)
        np.add.at(correct[n - 1], text, np.minimum(counts, others))
        np.add.at(possible[n - 1], text, counts)
    return correct, possible


def _bleu(correct: np.ndarray, possible: np.ndarray, length: int, reference_length: int) -> float:
    from sacrebleu.metrics import BLEU

    return float(
        BLEU.compute_bleu(
            correct.tolist(),
            possible.tolist(),
            length,
            reference_length,
            smooth_method="exp",
            effective_order=True,
        ).score
    )


@cache
def _tokenizer() -> Any:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


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
