"""The view Quantization in a browser: clicked through, by keys and by links, and with hostile texts."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_points import HOSTILE, PROMPTS

sys.path.append(str(Path(__file__).parent))

from made_pages import plots_of, rows_of, write_compare, write_quantizations

DESKTOP, PHONE = (1440, 900), (390, 844)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def quantizations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_quantizations(tmp_path_factory.mktemp("quantizations"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_quantizations(tmp_path_factory.mktemp("hostile"), hostile=True)


def through_the_view(page: Any) -> None:
    """Click through all there is; the body never grows wider than the window."""
    view = page.view
    view.click("#tabs a[data-view=quantization]")
    view.wait_for_selector("#drift-reading .tok")
    view.wait_for_selector("#quantization-findings dd a")
    for chart in ("drift", "divergence"):
        view.locator(f"#chart-{chart}").scroll_into_view_if_needed()
        view.wait_for_selector(f"#chart-{chart}[data-drawn]")
    assert page.overflow() <= 0
    view.click("#per-run")
    assert view.locator("#quantization-table tbody tr").count() == 9
    view.click("#per-run")
    assert view.locator("#quantization-table tbody tr").count() == 3
    view.locator("#worst-list a").first.click()
    view.wait_for_selector("#detail.pinned .both-sides")
    assert page.overflow() <= 0
    page.tab.keyboard.press("Escape")
    view.wait_for_selector("#detail", state="hidden")
    view.click("#theme")
    view.click("#worst-next")
    view.wait_for_selector("#detail.pinned .both-sides")
    assert page.overflow() <= 0
    page.tab.keyboard.press("Escape")


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("size", "dark", "framed"),
    [(DESKTOP, False, False), (PHONE, True, False), (DESKTOP, True, True), (PHONE, False, True)],
)
def test_the_view_can_be_clicked_through(
    quantizations: Path, open_page: Open, size: tuple[int, int], dark: bool, framed: bool
) -> None:
    through_the_view(open_page(quantizations, size=size, dark=dark, framed=framed))


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("size", "framed"), [(DESKTOP, True), (PHONE, False)])
def test_hostile_texts_stay_texts(
    hostile: Path, open_page: Open, size: tuple[int, int], framed: bool
) -> None:
    page = open_page(hostile, size=size, dark=framed, framed=framed)
    through_the_view(page)
    view = page.view
    scripts = view.evaluate("() => document.querySelectorAll('script').length")
    for name in HOSTILE:
        view.select_option("#drifted-prompt", name)
        view.wait_for_timeout(150)
        assert page.overflow() <= 0, name
        shown = view.text_content("#view-quantization")
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00]", shown), name
        text = view.locator("#drift-reading .text").first.text_content()
        if name == "bidi":
            assert "user⟨RLO⟩evil⟨PDF⟩ ⟨LRI⟩inside⟨PDI⟩" in text
        if name == "script":
            assert HOSTILE["script"] in text
    assert view.evaluate("() => document.querySelectorAll('#view-quantization img').length") == 0
    assert view.evaluate("() => document.querySelectorAll('script').length") == scripts


def test_a_token_shows_both_models(quantizations: Path, open_page: Open) -> None:
    page = open_page(quantizations, "#/quantization?drifted=m%2Fbnb_nf4%2Ftop_p&drifted_prompt=chat&at=1.4")
    view = page.view
    view.wait_for_selector("#detail.pinned .both-sides")
    detail = view.text_content("#detail")
    assert "KL 0.05 nats ± 0.002 · total variation 0.25" in detail, "kl is 0.01 (position + 1)"
    assert "token 5" in detail
    assert view.locator("#detail .both-sides table").count() == 2
    assert HOSTILE["script"] in view.locator("#detail .both-sides table").nth(1).text_content()
    assert "50.0%" in detail
    assert "25.0%" in detail
    assert "KL is bounded, not exact, for bnb_nf4" in view.text_content("#quantization-notes")
    assert view.evaluate(
        "() => [...document.querySelectorAll('#drift-reading .sample')][1].querySelectorAll('.tok')[4]"
        ".classList.contains('pin')"
    )


def test_keys_step_through_the_worst_tokens(quantizations: Path, open_page: Open) -> None:
    page = open_page(quantizations, "#/quantization?drifted=m%2Fbnb_int8%2Fgreedy&drifted_prompt=email")
    view = page.view
    view.wait_for_selector("#drift-reading .tok")

    def kl() -> float:
        view.wait_for_selector("#detail.pinned")
        mantissa, power = re.match(r"([\d.]+)·10⁻(.)", view.text_content("#detail .kl-line b")).groups()
        return float(mantissa) * 10 ** -"⁰¹²³⁴⁵⁶⁷⁸⁹".index(power)

    seen = []
    for key in "nnnp":
        page.tab.keyboard.press(key)
        view.wait_for_timeout(120)
        seen.append(kl())
    assert seen[:3] == sorted(seen[:3], reverse=True)
    assert seen[3] == seen[1]
    again = open_page(quantizations, view.evaluate("() => location.hash")).view
    again.wait_for_selector("#detail.pinned")
    assert again.text_content("#detail .chosen") == view.text_content("#detail .chosen")
    assert again.locator("#drifted option:checked").text_content() == "bnb_int8/greedy"


def test_the_table_is_exported(quantizations: Path, open_page: Open) -> None:
    view = open_page(quantizations, "#/quantization").view
    view.wait_for_selector("#drift-reading .tok")
    view.click("#open-export")
    rows = rows_of(view.input_value("#export-text"))
    assert [row["quantization"] for row in rows] == ["fp32", "bnb_int8", "bnb_nf4"]
    assert [float(row["memory/weights_mb"]) for row in rows] == [8, 4, 2]
    assert rows[0]["drift/kl_mean"] == ""
    assert float(rows[2]["drift/kl_mean low"]) <= float(rows[2]["drift/kl_mean"])


def test_the_table_begins_with_size_speed_kl_same_top_and_perplexity(
    quantizations: Path, open_page: Open
) -> None:
    view = open_page(quantizations, "#/quantization", size=PHONE).view
    view.wait_for_selector("#quantization-table tbody tr")
    names = view.locator("#quantization-table thead th").all_inner_texts()
    assert [name.split("\n")[0] for name in names[1:6]] == ["weights", "ITL", "KL", "same top", "PPL ratio"]
    assert len(set(names)) == len(names)
    view.wait_for_selector(".scroll-frame.more-right #quantization-table")


def test_a_quantization_has_its_own_shape_and_dash_in_one_colour(
    quantizations: Path, open_page: Open
) -> None:
    view = open_page(quantizations, "#/quantization").view
    (plot,) = plots_of(view, "drift")
    assert plot["marks"]["name"] == ["fp32", "bnb_int8", "bnb_nf4"]
    assert plot["marks"]["shape"] == ["circle", "square", "triangle"]
    assert len(set(plot["marks"]["colour"])) == 1, "hue is the strategy"
    (plot,) = plots_of(view, "divergence")
    assert sorted(plot["names"]["name"]) == ["bnb_int8", "bnb_nf4"]
    upper, lower = sorted(plot["names"]["y"], reverse=True)
    assert upper - lower >= 0.07, "names at the ends of lines do not cover each other"
    dots = view.locator("#quantization-findings .dot").evaluate_all(
        "(all) => all.map((dot) => dot.className)"
    )
    assert dots == ["dot circle", "dot square", "dot triangle"]


def test_prompts_are_offered_the_worst_first(quantizations: Path, open_page: Open) -> None:
    view = open_page(quantizations, "#/quantization").view
    view.wait_for_selector("#drift-reading .tok")
    offered = view.locator("#drifted-prompt option").all_text_contents()
    assert len(offered) == len(PROMPTS)
    most = [float(re.search(r"max ([\d.]+)", each).group(1)) for each in offered]
    assert most == sorted(most, reverse=True)


def test_the_page_says_what_did_not_fit(tmp_path: Path, open_page: Open) -> None:
    view = open_page(write_quantizations(tmp_path, budget_mb=0.4, tokens=120), "#/quantization").view
    view.wait_for_selector("#drift-reading .tok")
    assert "did not fit into this page" in view.text_content("#quantization-notes")
    last = view.locator("#drifted-prompt option").last.get_attribute("value")
    view.select_option("#drifted-prompt", last)
    view.wait_for_function(
        "() => document.querySelector('#drift-note').textContent.includes('drift.parquet')"
    )
    assert view.locator("#drift-reading .tok").count() == 0
    assert view.locator("#worst-list li").count() == 20


def test_a_sweep_without_drift_has_no_such_view(tmp_path: Path, open_page: Open) -> None:
    view = open_page(write_compare(tmp_path), "#/quantization").view
    view.wait_for_selector("#metrics tbody tr")
    assert view.locator("#tabs a").count() == 3
