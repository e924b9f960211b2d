"""BLEU (Papineni et al. 2002) as sacrebleu has it, of one text, of a corpus, and of texts among themselves.

Tokens are those of WMT's mteval-v13a, precisions are smoothed as there (Chen and Cherry 2014, method 3).
Scores are 0 to 100. The counts behind a score, as in sacrebleu: tokens of the text; tokens of the reference
nearest in length; n-grams that are in a reference too, n = 1 to 4; all n-grams, n = 1 to 4. Those of texts
add up to those of a corpus.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

ORDER = 4

Grams = Mapping[tuple[str, ...], int]
"""Counts of n-grams."""


def bleu_score(counts: np.ndarray, *, sentence: bool) -> float:
    """Return BLEU; n-grams longer than a sentence do not count, as in sacrebleu's `sentence_bleu`."""
    from sacrebleu.metrics import BLEU

    length, reference_length, *grams = counts.tolist()
    correct, total = grams[:ORDER], grams[ORDER:]
    score = BLEU.compute_bleu(
        correct, total, length, reference_length, smooth_method="exp", effective_order=sentence
    )
    return float(score.score)


def bleu_counts(output: str, reference: str) -> np.ndarray:
    """Return the counts of one text and one reference."""
    grams, length = _ngrams(output)
    reference_grams, reference_length = _ngrams(reference)
    return _counts(grams, reference_grams, length, reference_length)


def no_counts() -> np.ndarray:
    """Return the counts of no text at all."""
    return np.zeros(2 + 2 * ORDER, np.int64)


def self_bleu(outputs: Sequence[str]) -> list[float]:
    """Return each text's sentence BLEU with all others as references (Zhu et al. 2018, arXiv:1802.01886).

    More others make a match likelier: compare points with as many samples. NaN for a text without words and
    for one that is alone. Linear in the number of texts: of each n-gram, the two largest counts in one text
    give the largest count among the others.
    """
    counted = [_ngrams(output) for output in outputs]
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}  # largest count, its text, second largest
    for i, (grams, _) in enumerate(counted):
        for gram, count in grams.items():
            first, index, second = most.get(gram, (0, -1, 0))
            if count > first:
                most[gram] = count, i, first
            elif count > second:
                most[gram] = first, index, count
    scores = []
    for i, (grams, length) in enumerate(counted):
        if not length or len(outputs) < 2:
            scores.append(math.nan)
            continue
        others = {}
        for gram in grams:
            first, index, second = most[gram]
            others[gram] = second if index == i else first
        lengths = (other for j, (_, other) in enumerate(counted) if j != i)
        nearest = min(lengths, key=lambda other: (abs(other - length), other))
        scores.append(bleu_score(_counts(grams, others, length, nearest), sentence=True))
    return scores


def _counts(grams: Grams, others: Grams, length: int, reference_length: int) -> np.ndarray:
    correct = [0] * ORDER
    for gram in grams.keys() & others.keys():
        correct[len(gram) - 1] += min(grams[gram], others[gram])
    total = [max(0, length - n) for n in range(ORDER)]
    return np.array([length, reference_length, *correct, *total])


@lru_cache(maxsize=2)  # a reference comes with every sample
def _ngrams(text: str) -> tuple[Counter[tuple[str, ...]], int]:
    """Return the count of each n-gram of a text, n = 1 to 4, and its number of tokens."""
    from sacrebleu.metrics.helpers import extract_all_word_ngrams
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    tokens = Tokenizer13a()(text.rstrip())
    for tokenizer in (Tokenizer13a, TokenizerRegexp):  # each text comes once; 65,536 would stay in memory
        tokenizer.__call__.cache_clear()
    grams, length = extract_all_word_ngrams(tokens, 1, ORDER)
    return grams, length
