"""BLEU (Papineni et al. 2002): n-grams are counted here, tokens and formula are sacrebleu's.

Counts of texts add up to those of a corpus. Tokens are those of WMT's mteval-v13a, precisions are smoothed as
there (Chen and Cherry 2014, method 3). Scores are 0 to 100.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

ORDER = 4


@dataclass(frozen=True)
class BleuCounts:
    """The counts behind BLEU; those of texts add up to those of a corpus.

    Attributes:
        correct, total: n-grams that are in a reference too, and all of them, n = 1 to 4.
        length: tokens of the texts.
        reference_length: tokens of the references nearest in length.
    """

    correct: tuple[int, ...] = (0,) * ORDER
    total: tuple[int, ...] = (0,) * ORDER
    length: int = 0
    reference_length: int = 0

    def __add__(self, other: BleuCounts) -> BleuCounts:
        return BleuCounts(
            tuple(map(sum, zip(self.correct, other.correct, strict=True))),
            tuple(map(sum, zip(self.total, other.total, strict=True))),
            self.length + other.length,
            self.reference_length + other.reference_length,
        )

    def score(self, *, sentence: bool) -> float:
        """Return BLEU; n-grams longer than a sentence do not count, as in sacrebleu's `sentence_bleu`."""
        from sacrebleu.metrics import BLEU

        return float(
            BLEU.compute_bleu(
                list(self.correct),
                list(self.total),
                self.length,
                self.reference_length,
                smooth_method="exp",
                effective_order=sentence,
            ).score
        )


def bleu_counts(output: str, reference: str) -> BleuCounts:
    """Return the counts of one text and one reference."""
    grams, tokens = _ngrams(output)
    reference_grams, reference_tokens = _ngrams(reference)
    return _counts(grams, reference_grams, tokens, reference_tokens)


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
        scores.append(_counts(grams, others, length, nearest).score(sentence=True))
    return scores


Grams = dict[tuple[str, ...], int]


def _counts(grams: Grams, others: Grams, length: int, reference_length: int) -> BleuCounts:
    correct = [0] * ORDER
    for gram in grams.keys() & others.keys():
        correct[len(gram) - 1] += min(grams[gram], others[gram])
    total = tuple(max(0, length - n) for n in range(ORDER))
    return BleuCounts(tuple(correct), total, length, reference_length)


@lru_cache(maxsize=2)  # a reference comes with every sample
def _ngrams(text: str) -> tuple[Grams, int]:
    """Return the count of each n-gram of a text, n = 1 to 4, and its number of tokens."""
    tokens = _tokens(text)
    grams = Counter(
        gram for n in range(1, ORDER + 1) for gram in zip(*(tokens[at:] for at in range(n)), strict=False)
    )
    return grams, len(tokens)


def _tokens(text: str) -> list[str]:
    tokenizer, caches = _tokenizer()
    tokens = str(tokenizer(text.rstrip())).split()
    for cached in caches:  # each text comes once; the caches would keep 65,536 of them
        cached.cache_clear()
    return tokens


@cache
def _tokenizer() -> tuple[Any, tuple[Any, ...]]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    caches = (Tokenizer13a.__call__, TokenizerRegexp.__call__)
    return Tokenizer13a(), tuple(one for one in caches if hasattr(one, "cache_clear"))
