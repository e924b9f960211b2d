"""Metrics against a reference: by hand, and chrF against sacrebleu's own function."""

from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.metrics.reference_metrics import chrf, common_subsequence, exact_match, rouge_l


def test_rouge_l_by_hand() -> None:
    # Lin 2004, 3.1: the longest common subsequence is `police the gunman`, of 4 words each.
    assert rouge_l("Police kill the gunman", "police killed the gunman") == pytest.approx(3 / 4)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(2 / 4)
    assert rouge_l("a b", "a x b y z c") == pytest.approx(2 * (2 / 2) * (2 / 6) / (2 / 2 + 2 / 6))
    assert rouge_l("", "police") == 0
    assert rouge_l("owl", "police") == 0


@given(st.lists(st.sampled_from("abc"), max_size=20), st.lists(st.sampled_from("abc"), max_size=20))
def test_common_subsequence_against_the_table(first: list[str], second: list[str]) -> None:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    assert common_subsequence(first, second) == table[-1][-1]


def test_chrf() -> None:
    for output, reference in (("the cat sat", "a cat sat down"), ("", "x"), ("naïve!", "naive?"), ("a", "a")):
        assert chrf(output, reference) == pytest.approx(sacrebleu.sentence_chrf(output, [reference]).score)
    # `ab` against `abc`: 1-grams have precision 1, recall 2/3, 2-grams 1 and 1/2; longer ones are in neither.
    precision, recall = 1, (2 / 3 + 1 / 2) / 2
    assert chrf("ab", "abc") == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))


def test_exact_match() -> None:
    assert exact_match(" Lisbon.\n", "Lisbon.") == 1
    assert exact_match("lisbon.", "Lisbon.") == 0
    assert exact_match("", "Lisbon.") == 0
