"""Metrics of a text alone: its length, how varied it is, how much it repeats itself."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

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

    A state of the suffix automaton (Blumer et al. 1985) that another one links to has sequences that end
    at two positions or more; the longest of them is the answer. Linear in the length of the text.
    """
    lengths, links, following = [0], [-1], [{}]  # type: list[int], list[int], list[dict[str, int]]
    last = 0
    for token in tokens:
        lengths.append(lengths[last] + 1)
        links.append(0)
        following.append({})
        new, state = len(lengths) - 1, last
        while state >= 0 and token not in following[state]:
            following[state][token] = new
            state = links[state]
        if state >= 0:
            target = following[state][token]
            if lengths[target] > lengths[state] + 1:  # it has longer sequences too: clone it
                lengths.append(lengths[state] + 1)
                links.append(links[target])
                following.append(dict(following[target]))
                clone = len(lengths) - 1
                while state >= 0 and following[state].get(token) == target:
                    following[state][token] = clone
                    state = links[state]
                links[target] = target = clone
            links[new] = target
        last = new
    return max((lengths[link] for link in links[1:]), default=0)


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
