"""Sentences: their figures have one minus."""

from __future__ import annotations

import pytest

from harness.analysis.sentence import Sentence


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("slope -31.2 [-55.5, -9.49] per unit", "slope −31.2 [−55.5, −9.49] per unit"),
        ("chrF -4 (-1 to 2); x=-3", "chrF −4 (−1 to 2); x=−3"),
        ("rep-4, max-t, 2026-11-26, top-5 and 1e-05", "rep-4, max-t, 2026-11-26, top-5 and 1e-05"),
    ],
)
def test_negative_numbers_have_the_minus_of_metrics(written: str, shown: str) -> None:
    assert Sentence("x", (), written).evidence == shown
