"""The answer in an output."""

from __future__ import annotations

import time

import pytest

from harness.analysis.metrics.extracted_answer import MOST_TIMEOUTS, AnswerPattern
from harness.errors import HarnessError


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So 3 + 4 = 7.", "7"),
        ("The total is $1,234.50!", "1234.5"),
        ("1,000.0", "1000"),
        ("it fell to -12 degrees", "-12"),
        ("between 5-3", "3"),  # a dash between numbers is no sign
        ("x = −4", "-4"),
        ("-0.0", "0"),
        ("007", "7"),
        ("  Paris,\n France ", "paris, france"),
        ("", ""),
    ],
)
def test_the_last_number_else_the_text(text: str, answer: str) -> None:
    assert AnswerPattern().answer(text) == answer


def test_the_last_match_of_a_pattern_and_its_first_group() -> None:
    assert AnswerPattern(r"answer is (\w+)").answer("the answer is A. No, the answer is B") == "b"
    assert AnswerPattern(r"[A-D]").answer("A or C?") == "c"
    assert AnswerPattern(r"x(y)?").answer("xy x") == "x"  # the group took no part in the last match
    assert AnswerPattern(r"#(\d+)").answer("no such thing") == "no such thing"
    assert AnswerPattern(r"#(\d+)").match("no such thing") is None


def test_a_pattern_that_explodes_ends_soon_and_is_refused() -> None:
    pattern, hostile = AnswerPattern(r"(a|aa)+$"), "a" * 5000 + "b"
    began = time.monotonic()
    for _ in range(MOST_TIMEOUTS):
        assert pattern.match(hostile) is None
    with pytest.raises(HarnessError, match="repetitions"):
        pattern.match(hostile)
    assert time.monotonic() - began < 10
