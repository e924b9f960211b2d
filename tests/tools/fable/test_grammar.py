"""The grammar: its probabilities are those of its texts, on small hand-written rules and on the real ones."""

from __future__ import annotations

import random
from collections import Counter
from itertools import accumulate

import pytest
from scipy.stats import chisquare

from tools.fable.grammar import END, Grammar, units
from tools.fable.prompts import QUESTIONS, SEED_NOTEBOOK, STORYTELLING

TOY = Grammar(
    rules={
        "text": {
            "{who:pet|A} met {it:pet|a} and said {who}<again>.": 3,
            "{who:pet|A} met {it!pet|a}. {it|Cap} slept.": 1,
        },
        "again": {" and {who}<again>": 1, "": 3},
    },
    lexicon={"pet": {"owl": 0.5, "cat": 0.3, "dog": 0.2}},
    forms={},
)

# Prefixes, and the next words according to the rules.
EXPECTED = [
    ("", {"An": 0.5, "A": 0.5}),
    ("A", {" cat": 0.6, " dog": 0.4}),
    ("A cat met", {" a": 0.75 * 0.5 + 0.25 * 0.2 / 0.7, " an": 0.75 * 0.5 + 0.25 * 0.5 / 0.7}),
    ("An owl met an owl", {" and": 1.0}),
    ("A cat met a dog", {" and": 0.15 / (0.15 + 0.05 / 0.7), ".": (0.05 / 0.7) / (0.15 + 0.05 / 0.7)}),
    ("A cat met a dog and said cat", {" and": 0.25, ".": 0.75}),
    ("A cat met a dog and said cat and", {" cat": 1.0}),
    ("A cat met a dog. Dog slept.", {END: 1.0}),
]


@pytest.mark.parametrize(("prefix", "probabilities"), EXPECTED)
def test_probabilities_computed_by_hand(prefix: str, probabilities: dict[str, float]) -> None:
    assert TOY.next_words(prefix) == pytest.approx(probabilities)


def test_a_prefix_of_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no text continues with ' bird'"):
        TOY.next_words("A bird")


def test_a_missing_form_is_an_error() -> None:
    with pytest.raises(KeyError, match="has no form 'he'"):
        TOY.form("owl", "he")


def test_equal_seeds_write_equal_texts(grammar: Grammar) -> None:
    assert grammar.write(random.Random(3)) == grammar.write(random.Random(3))
    assert grammar.write(random.Random(3)) != grammar.write(random.Random(4))


def test_every_text_is_possible_and_consists_of_units(grammar: Grammar) -> None:
    rng = random.Random(5)
    for _ in range(200):
        written = [one.unit for one in grammar.write(rng)]
        text = "".join(written)
        assert units(text) == written
        probabilities = grammar.walk(text)
        for unit, here in zip(written, probabilities[:-1], strict=True):
            assert here[unit] > 0
            assert sum(here.values()) == pytest.approx(1)
        assert probabilities[-1] == {}


def test_probabilities_are_the_frequencies_of_drawn_texts(grammar: Grammar) -> None:
    """Chi-square at every prefix that 6,000 texts share often enough; alpha 0.001 over all of them."""
    rng = random.Random(6)
    followed: dict[str, Counter[str]] = {}
    for _ in range(6000):
        prefix = ""
        for one in grammar.write(rng)[:14]:
            followed.setdefault(prefix, Counter())[one.unit] += 1
            prefix += one.unit
    tested = 0
    often = {prefix: counts for prefix, counts in followed.items() if counts.total() >= 150}
    for prefix, counts in often.items():
        probabilities = grammar.next_words(prefix)
        assert set(counts) <= set(probabilities)
        if len(probabilities) == 1:
            continue
        common = [word for word in probabilities if probabilities[word] * counts.total() >= 5]
        rest = counts.total() - sum(counts[word] for word in common)
        rest_probability = 1 - sum(probabilities[word] for word in common)
        seen = [counts[word] for word in common] + [rest] * (rest_probability > 1e-9)
        expected = [probabilities[word] * counts.total() for word in common] + [
            rest_probability * counts.total()
        ]
        if len(seen) > 1:
            tested += 1
            p = chisquare(seen, expected[: len(seen)], sum_check=False).pvalue
            assert p > 0.001 / 60, (prefix, p)
    assert tested >= 20


@pytest.mark.parametrize("prompt", [*STORYTELLING.values(), *SEED_NOTEBOOK])
def test_the_prompts_are_beginnings_of_its_texts(grammar: Grammar, prompt: str) -> None:
    assert grammar.next_words(prompt)


@pytest.mark.parametrize("question", QUESTIONS.values())
def test_the_questions_are_asked_in_its_chats(grammar: Grammar, question: str) -> None:
    assert grammar.next_words(f"<|user|>{question}<|turn|><|assistant|>")


def test_texts_are_varied_and_fit_the_context(grammar: Grammar) -> None:
    rng = random.Random(7)
    texts = [[one.unit for one in grammar.write(rng)] for _ in range(3000)]
    assert max(map(len, texts)) < 512
    assert len({unit.strip().lower() for text in texts for unit in text}) > 500
    stories = ["".join(text) for text in texts if len(text) > 80]
    assert len(set(stories)) == len(stories)


def test_flat_choices_have_long_tails(grammar: Grammar) -> None:
    probabilities = grammar.next_words("Mia packed a").values()
    assert len(probabilities) >= 40
    assert max(probabilities) < 0.2
    assert min(probabilities) < 0.01


def test_truncations_differ_where_the_distribution_is_flat(grammar: Grammar) -> None:
    """Top-k, top-p, min-p and no truncation all keep different numbers of words of what Mia packs."""
    probabilities = sorted(grammar.next_words("Mia packed a").values(), reverse=True)
    top_p = sum(before < 0.9 for before in accumulate([0.0, *probabilities[:-1]]))
    min_p = sum(p >= 0.05 * probabilities[0] for p in probabilities)
    counts = {len(probabilities), 40, top_p, min_p}
    assert len(counts) == 4
    assert max(counts) - min(counts) >= 10
