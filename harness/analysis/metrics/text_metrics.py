"""Metrics of a text alone: its length, how varied it is, how much it repeats itself."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

import numpy as np

from harness.analysis.metrics.loops import looped

# Chinese and Japanese put no spaces between words: there each character counts as one.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+(?:['’][^\W{_ALONE}]+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Return the words and punctuation marks of a text, lower case: the unit of all metrics of words."""
    return _WORD.findall(text.lower())


def text_metrics(output: str) -> dict[str, float]:
    """Return the columns of the metrics of one text; NaN where it is too short for one."""
    tokens = words(output)
    return {
        "words": float(len(tokens)),
        **{f"distinct_{n}": distinct_n(tokens, n) for n in (1, 2, 3)},
        "repeated_4": repeated_n(tokens, 4),
        "longest_repeat": float(longest_repeat(tokens)) if tokens else math.nan,
        "compression_ratio": compression_ratio(output),
        "looped": float(looped(tokens)),
    }


def distinct_n(tokens: Sequence[str], n: int) -> float:
    """Return distinct n-grams over all n-grams (Li et al. 2016, arXiv:1510.03055); NaN without any."""
    grams = list(zip(*(tokens[offset:] for offset in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else math.nan


def repeated_n(tokens: Sequence[str], n: int) -> float:
    """Return 1 - distinct n-grams over all n-grams, seq-rep-n of Welleck et al. 2020 (arXiv:1908.04319)."""
    return 1 - distinct_n(tokens, n)


def longest_repeat(tokens: Sequence[str]) -> int:
    """Return the length of the longest word sequence that occurs twice, overlaps allowed; 0 without any.

    Equal sequences of 1, 2, 4, ... words get equal ids (Karp, Miller and Rosenberg 1972); from the longest of
    these down, the length grows as long as a sequence of it occurs twice. O(n log(n)^2) for n words.
    """

    def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        pairs = first[: len(second)] * len(tokens) + second
        return np.unique(pairs, return_inverse=True)[1]

    def any_twice(ids: np.ndarray) -> bool:
        return len(ids) > int(ids.max(initial=-1)) + 1

    words_seen: dict[str, int] = {}
    ids = np.array([words_seen.setdefault(token, len(words_seen)) for token in tokens], np.int64)
    powers: list[np.ndarray] = []  # ids of the sequences of 2^k words, by their first word
    while any_twice(ids):
        powers.append(ids)
        ids = joined(ids, ids[2 ** (len(powers) - 1) :])
    length, found = 0, np.zeros(len(tokens), np.int64)
    for k in reversed(range(len(powers))):
        longer = joined(found, powers[k][length:])
        if any_twice(longer):
            length, found = length + 2**k, longer
    return length


def compression_ratio(text: str) -> float:
    """Return bytes of a text over compressed bytes (Shaib et al. 2024, arXiv:2403.00553); high if it repeats.

    UTF-8, compressed by DEFLATE at its highest level without zlib's header, which would dominate short texts.
    Longer texts compress better in any case: compare texts of similar length. NaN for an empty text.
    """
    data = text.encode("utf-8", "replace")
    if not data:
        return math.nan
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(data) / len(packer.compress(data) + packer.flush())
