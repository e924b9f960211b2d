"""Holm's correction on numbers worked out by hand, and the words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.statistics.multiple_comparisons import holm, verdict_of, word_of


def test_holm_by_hand() -> None:
    # In order .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04; none may fall below the one before it.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_passes_one_and_a_single_p_is_left_alone() -> None:
    assert holm(np.array([0.9, 0.5, 0.02])) == pytest.approx([1, 1, 0.06])
    assert holm(np.array([0.049])) == pytest.approx([0.049])
    assert len(holm(np.array([]))) == 0


def test_what_was_not_compared_does_not_count() -> None:
    corrected = holm(np.array([math.nan, 0.02, math.nan, 0.03]))
    assert corrected[[1, 3]] == pytest.approx([0.04, 0.04])
    assert np.isnan(corrected[[0, 2]]).all()


def test_holm_keeps_the_rate_of_sweeps_with_any_false_word() -> None:
    rng = np.random.default_rng(0)
    wrong = sum((holm(p) < 0.05).any() for p in rng.random((2000, 40)))
    assert 0.035 < wrong / 2000 < 0.065


def test_words_and_verdicts() -> None:
    assert word_of(0.2, 0.049) == "higher"
    assert word_of(-0.2, 0.049) == "lower"
    assert word_of(0.2, 0.05) == word_of(0.2, None) == word_of(0.0, 0.0) == "no significant difference"
    assert verdict_of("higher", "higher") == verdict_of("lower", "lower") == "better"
    assert verdict_of("higher", "lower") == verdict_of("lower", "higher") == "worse"
    assert verdict_of("higher", None) is None
    assert verdict_of("no significant difference", "lower") is None
