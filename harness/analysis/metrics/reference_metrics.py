"""Metrics of a text compared with the `reference` of its prompt. A text without words matches nothing: 0."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from harness.analysis.metrics.text_metrics import words


def chrf(output: str, reference: str) -> float:
    """Return sacrebleu's sentence chrF2: F-score of character 1- to 6-grams, 0 to 100 (Popović 2015)."""
    return float(_chrf().sentence_score(output, [reference]).score)


def rouge_l(output: str, reference: str) -> float:
    """Return ROUGE-L, 0 to 1 (Lin 2004): F1 of the longest common subsequence of words; without stemming."""
    candidate, target = words(output), words(reference)
    common = common_subsequence(candidate, target)
    return 2 * common / (len(candidate) + len(target)) if common else 0.0


def exact_match(output: str, reference: str) -> float:
    """Return 1 where the text equals the reference, surrounding white space aside, else 0."""
    return float(output.strip() == reference.strip())


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of its table per step (Hyyrö 2004).

    Bit i of `row` is 0 where the table's row grows at `first[i]`.
    """
    positions: dict[str, int] = {}
    for position, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << position
    row = mask = (1 << len(first)) - 1
    for word in second:
        matches = row & positions.get(word, 0)
        row = (row + matches | row - matches) & mask
    return len(first) - row.bit_count()


@cache
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
