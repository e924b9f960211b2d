"""Numbers as the pages write them, by the pages' own functions in a browser."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.page.shell import TEMPLATES


@pytest.fixture(scope="module")
def written(browser: Any) -> Any:
    """`written("percent(0.5)")`: an expression of numbers.js."""
    source = (TEMPLATES / "js" / "numbers.js").read_text(encoding="utf-8")
    page = browser.new_page()
    yield lambda expression: page.evaluate(f"() => {{ {source}\nreturn {expression}; }}")
    page.close()


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("percent(4.4e-28)", "<0.001%"),
        ("percent(0.0000123)", "0.001%"),
        ("percent(0.00234)", "0.23%"),
        ("percent(1)", "100%"),
        ("share(4.4e-28)", "0%"),
        ("changePercent(1 + 4.4e-28)", "±0.00%"),
        ("changePercent(1.00123)", "+0.12%"),
        ("changePercent(0.75)", "−25.0%"),
        ("changePercent(13.5)", "+1,250%"),
        ("signed({ known: true, decimals: 2 }, -4.4e-17)", "0"),
        ("signed({ known: true, decimals: 2 }, 0.0042)", "+0.0042"),
        ("signed({ known: true, decimals: 2 }, -1.5)", "−1.50"),
        ("fixed(-0.0001, 2)", "0.00"),
        ("fixed(-0.01, 2)", "−0.01"),
        ("scientific(4.4e-26)", "4.4·10⁻²⁶"),
    ],
)
def test_numbers_read_without_exponents(written: Any, expression: str, text: str) -> None:
    assert written(expression) == text
