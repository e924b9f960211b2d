"""Metrics of a text against the `reference` of its prompt. A text without words matches nothing: 0."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from harness.analysis.metrics.text_metrics import words


def chrf(output: str, reference: str) -> float:
    """chrF2, sacrebleu's sentence score: F-score of character 1- to 6-grams, 0 to 100 (Popović 2015)."""
    return float(_chrf().sentence_score(output, [reference]).score)


def rouge_l(output: str, reference: str) -> float:
    """ROUGE-L, 0 to 1 (Lin 2004): F1 of the longest common subsequence of words; without stemming."""
    made, wanted = words(output), words(reference)
    common = common_subsequence(made, wanted)
    return 2 * common / (len(made) + len(wanted)) if common else 0.0


def exact_match(output: str, reference: str) -> float:
    """1 where the text is the reference, white space around them aside, else 0."""
    return float(output.strip() == reference.strip())


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a whole row of its table a step (Hyyrö 2004).

    Bit i of `row` is 0 where the table's row grows at `first[i]`.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    row = whole = (1 << len(first)) - 1
    for word in second:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & whole
    return len(first) - row.bit_count()


@cache
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
