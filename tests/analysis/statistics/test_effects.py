"""Eta squared against numbers worked out by hand and scipy's analysis of variance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.statistics.effects import effect_share, level_means


def test_two_by_two_by_hand() -> None:
    # Mean 5; models move by 2 (SS 4 x 4 = 16), decodings by 1 (SS 4), together by nothing: SS 20.
    values = np.array([2.0, 4.0, 6.0, 8.0])
    model, decoding = ["a", "a", "b", "b"], ["g", "p", "g", "p"]
    assert effect_share(values, model, [decoding]) == pytest.approx(0.8)
    assert effect_share(values, decoding, [model]) == pytest.approx(0.2)
    assert level_means(values, decoding) == {"g": 4, "p": 6}


def test_what_factors_do_together_belongs_to_none() -> None:
    values = np.array([2.0, 4.0, 6.0, 12.0])  # mean 6, SS 56: model 36, decoding 16, both 4
    model, decoding = ["a", "a", "b", "b"], ["g", "p", "g", "p"]
    assert effect_share(values, model, [decoding]) == pytest.approx(36 / 56)
    assert effect_share(values, decoding, [model]) == pytest.approx(16 / 56)


def test_one_factor_is_scipys_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(shift, size=size) for shift, size in ((0, 4), (0.5, 7), (1, 3))]
    f = stats.f_oneway(*groups).statistic
    factor = [level for level, group in enumerate(groups) for _ in group]
    assert effect_share(np.concatenate(groups), factor) == pytest.approx(f * 2 / (f * 2 + 11))


def test_unbalanced_shares_are_what_each_adds_to_the_other() -> None:
    # Without (b, p): a g 1, a p 3, b g 7. Mean 11/3, SS 18.67. Both factors explain all of it. Decoding alone
    # leaves 18 (g: 1 and 7), model alone leaves 2 (a: 1 and 3).
    values = np.array([1.0, 3.0, 7.0])
    model, decoding = ["a", "a", "b"], ["g", "p", "g"]
    total = 1 + 9 + 49 - 121 / 3
    assert effect_share(values, model, [decoding]) == pytest.approx(18 / total)
    assert effect_share(values, decoding, [model]) == pytest.approx(2 / total)


def test_values_that_do_not_differ_have_no_share_and_a_twin_adds_nothing() -> None:
    assert math.isnan(effect_share(np.full(3, 0.1), ["a", "b", "c"]))
    assert effect_share(np.array([1.0, 2.0, 4.0]), ["a", "b", "b"], [["x", "y", "y"]]) == 0
