"""Metrics of a text on values worked out by hand, and against ways too slow to use."""

from __future__ import annotations

import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.metrics.loops import looped
from harness.analysis.metrics.text_metrics import (
    compression_ratio,
    distinct_n,
    longest_repeat,
    repeated_n,
    text_metrics,
    words,
)


def test_words() -> None:
    assert words("The dog's hat, the HAT!") == ["the", "dog's", "hat", ",", "the", "hat", "!"]
    assert words("Ça va… 3.5 naïve_word") == ["ça", "va", "…", "3", ".", "5", "naïve_word"]
    assert words("我喜欢 tea。") == ["我", "喜", "欢", "tea", "。"], "no spaces there: characters are words"
    assert words(" \n\t") == []


def test_ngrams_by_hand() -> None:
    text = words("the cat saw the cat")  # 3 of 5 words; bigrams: the cat, cat saw, saw the, the cat
    assert distinct_n(text, 1) == pytest.approx(3 / 5)
    assert distinct_n(text, 2) == pytest.approx(3 / 4)
    assert distinct_n(text, 3) == pytest.approx(1)
    assert math.isnan(distinct_n(["one"], 2))
    assert math.isnan(distinct_n([], 1))
    # abcd bcda cdab dabc abcd bcda: 4 distinct of 6
    assert repeated_n(words("a b c d a b c d a"), 4) == pytest.approx(1 / 3)
    assert math.isnan(repeated_n(words("a b c"), 4))


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("a", 0),
        ("a b c", 0),
        ("a b a", 1),
        ("a a a a", 3),  # the two places may overlap
        ("the owl sat and the owl slept", 2),
        ("x a b c y a b c z b c", 3),
    ],
)
def test_longest_repeat_by_hand(text: str, length: int) -> None:
    assert longest_repeat(text.split()) == length


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_longest_repeat_against_trying_all_lengths(tokens: list[str]) -> None:
    def repeats(length: int) -> bool:
        found = [tuple(tokens[at : at + length]) for at in range(len(tokens) - length + 1)]
        return len(set(found)) < len(found)

    assert longest_repeat(tokens) == max((n for n in range(1, len(tokens)) if repeats(n)), default=0)


def test_compression() -> None:
    assert math.isnan(compression_ratio(""))
    text = "the owl and " * 50
    whole = zlib.compress(text.encode(), 9)
    assert compression_ratio(text) == pytest.approx(600 / (len(whole) - 6)), "less zlib's header and checksum"
    assert compression_ratio(text) > 10 > 1.5 > compression_ratio("It was a dark and stormy night.")
    assert compression_ratio("é") == compression_ratio("ab") == 2 / 4, "bytes, not characters"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", False),
        ("no " * 12, True),
        ("no " * 11, False),  # too short to tell a loop from emphasis
        ("Wow!!!", False),
        ("!" * 12, True),
        ("once there was " + "and the red owl " * 3, True),
        ("once there was " + "and the red owl " * 2, False),
        ("and the red owl " * 3 + "slept", False),  # it found its way out
        ("once " + "and the red owl " * 3 + "and the r", True),  # cut within a repetition, and within a word
        ("once " + "and the red owl " * 3 + "and the x", False),
        ("one two three four five six seven eight nine ten. " * 3, True),
        ("one two three four five six seven eight nine ten. " * 2, False),
        ("The list: red, blue, red, green, red, blue, red, yellow, red, blue", False),
        ("他说" * 6, True),
    ],
)
def test_loops(text: str, told: bool) -> None:
    assert looped(words(text)) is told


@given(st.lists(st.sampled_from(["a", "b", "ab"]), max_size=28))
def test_loops_against_the_definition(tokens: list[str]) -> None:
    def same(place: int, period: int) -> bool:
        before, word = tokens[place - period], tokens[place]
        return before.startswith(word) if place == len(tokens) - 1 else before == word

    def ends_in(period: int) -> bool:
        length = max(3 * period, 12)
        places = range(len(tokens) - length + period, len(tokens))
        return len(tokens) >= length and all(same(place, period) for place in places)

    assert looped(tokens) is any(ends_in(period) for period in range(1, len(tokens)))


def test_a_text_without_words_says_what_it_can() -> None:
    empty = text_metrics("")
    assert (empty["words"], empty["looped"]) == (0, 0)
    assert all(math.isnan(value) for name, value in empty.items() if name not in ("words", "looped"))
    one = text_metrics("Yes")
    assert (one["words"], one["distinct_1"], one["longest_repeat"]) == (1, 1, 0)
    assert math.isnan(one["distinct_2"])
    assert math.isnan(one["repeated_4"])
    for text in ("x" * 10_000, "\ud800 \u202e\x00", "👩‍👩‍👧"):
        assert text_metrics(text)["words"] > 0


def test_a_long_text_takes_no_quadratic_time() -> None:
    """100,000 words in seconds, where comparing all with all would take hours."""
    tokens = [f"w{number % 5003}" for number in range(50_000)] + ["no"] * 50_000
    assert longest_repeat(tokens) == 49_999
    assert looped(tokens)
    assert not looped([*tokens, "yes"])
