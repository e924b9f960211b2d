"""The words of differences."""

from __future__ import annotations

from harness.analysis.statistics.verdicts import verdict_of, word_of


def test_words_and_verdicts() -> None:
    assert word_of(0.2, 0.049) == "higher"
    assert word_of(-0.2, 0.049) == "lower"
    assert word_of(0.2, 0.05) == word_of(0.2, None) == word_of(0.0, 0.0) == "no significant difference"
    assert verdict_of("higher", "higher") == verdict_of("lower", "lower") == "better"
    assert verdict_of("higher", "lower") == verdict_of("lower", "higher") == "worse"
    assert verdict_of("higher", None) is None
    assert verdict_of("no significant difference", "lower") is None
