"""BLEU and self-BLEU against sacrebleu's own functions, and by hand."""

from __future__ import annotations

import math

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.metrics.bleu import bleu_counts, bleu_score, no_counts, self_bleu

WORDS = ["the", "a", "cat", "dog", "saw", "it's", ",", ".", "&", "-\n", "3.5", "naïve"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


def test_by_hand() -> None:
    counts = bleu_counts("the cat sat on a mat", "the cat sat on the mat")
    # Unigrams the cat sat on mat; bigrams the cat, cat sat, sat on; then 2 and 1.
    assert counts.tolist() == [6, 6, 5, 3, 2, 1, 6, 5, 4, 3]
    assert bleu_score(counts, sentence=True) == pytest.approx(
        100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    )
    short = bleu_counts("the cat", "the cat sat on the mat")
    assert bleu_score(short, sentence=True) == pytest.approx(100 * math.exp(1 - 6 / 2)), "brevity"
    assert bleu_score(bleu_counts("", "the cat"), sentence=True) == 0
    assert bleu_score(bleu_counts("owl", "the cat"), sentence=True) == 0
    twice = bleu_counts("the the", "the cat")
    assert twice[2] == 1, "a word counts as often as the reference has it"


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS.filter(str.strip)), min_size=1, max_size=5))
def test_sentences_and_corpora_as_sacrebleu_has_them(pairs: list[tuple[str, str]]) -> None:
    whole = no_counts()
    for output, reference in pairs:
        counts = bleu_counts(output, reference)
        wanted = sacrebleu.sentence_bleu(output, [reference]).score
        assert bleu_score(counts, sentence=True) == pytest.approx(wanted)
        whole += counts
    outputs, references = zip(*pairs, strict=True)
    assert bleu_score(whole, sentence=False) == pytest.approx(
        sacrebleu.corpus_bleu(outputs, [references]).score
    )


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=6))
def test_self_bleu_is_bleu_against_the_others(outputs: list[str]) -> None:
    for place, score in enumerate(self_bleu(outputs)):
        if not outputs[place].strip():
            assert math.isnan(score)
        else:
            others = outputs[:place] + outputs[place + 1 :]
            assert score == pytest.approx(sacrebleu.sentence_bleu(outputs[place], others).score)


def test_self_bleu_by_hand() -> None:
    assert self_bleu(["a b c d"] * 3) == [pytest.approx(100)] * 3
    assert self_bleu(["a b c d", "e f g h"]) == [0, 0]
    assert math.isnan(self_bleu(["a b c d"])[0])
    assert self_bleu([]) == []


def test_many_samples_of_a_prompt() -> None:
    """500 at once, in a second; each against each would take minutes."""
    outputs = [" ".join(f"w{(place * 7 + at) % 97}" for at in range(100)) for place in range(500)]
    assert len(self_bleu(outputs)) == 500
