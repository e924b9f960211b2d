"""The answer and the table of runs in a browser."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fake_points import HOSTILE
from swept_sweep import chrf as chrf_of
from swept_sweep import swept_comparison

sys.path.append(str(Path(__file__).parent))

from made_pages import write_compare, write_hostile, write_swept

from harness.store.sweeps import load_sweep

PHONE = (390, 844)
TEMPERATURES = {"decoding.temperature": (0.4, 0.7, 1.0)}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_swept(tmp_path_factory.mktemp("swept"), keys=TEMPERATURES, quantizations=("fp32", "bnb_nf4"))


def test_the_page_opens_with_the_answer(swept: Path, open_page: Open) -> None:
    view = open_page(swept).view
    view.wait_for_selector("#answer dd")
    first = view.locator("#answer > div").first
    assert first.get_attribute("class") == "good"
    assert first.locator("dt").text_content() == "Best chrF"
    assert first.locator("dd").text_content().startswith("fp32/min_p temperature=0.7: chrF 43.0.")
    evidence = first.locator(".evidence")
    assert evidence.text_content().startswith("95% interval 37.5 to 40.5")
    size = "(node) => parseFloat(getComputedStyle(node).fontSize)"
    assert evidence.evaluate(size) < first.locator("dd").evaluate(size)
    top = "(node) => node.getBoundingClientRect().top"
    assert view.locator("#answer").evaluate(top) < view.locator("#metrics").evaluate(top)
    first.locator("a").click()
    view.wait_for_selector("#settings tbody tr")
    assert view.locator("#run option:checked").text_content() == "fp32/min_p temperature=0.7"
    view.click("#tabs a[data-view=overview]")
    view.click("#answer a:has-text('chat')")
    view.wait_for_selector("#columns .text")
    assert view.text_content("#prompt-id") == "chat"


def test_the_table_marks_the_best_its_ties_and_what_is_all_equal(swept: Path, open_page: Open) -> None:
    view = open_page(swept).view
    view.wait_for_selector("#metrics tbody tr")
    assert view.locator("#metrics thead th").nth(1).text_content().startswith("chrF")
    best = view.locator("#metrics tbody tr", has=view.locator(".chip.good"))
    assert best.locator(".point-link").all_text_contents() == ["fp32/min_p temperature=0.7"]
    heads = [text.partition("hi")[0] for text in view.locator("#metrics thead th").all_text_contents()]
    values = [
        [cell.locator(".value").text_content().rstrip("▲▼·↑↓") for cell in row.locator("td").all()]
        for row in view.locator("#metrics tbody tr").all()
    ]
    for column, head in enumerate(heads[1:]):
        bold = f"#metrics tbody td:nth-child({column + 2}) .value.best"
        shown = [text.rstrip("▲▼·↑↓") for text in view.locator(bold).all_text_contents()]
        all_values = [float(row[column].replace("−", "-").replace(",", "")) for row in values]
        best = {"chrF": max, "rep-4": min, "dist-2": max}.get(head.partition("low")[0].strip())
        if best and len(set(all_values)) > 1:
            extreme = best(all_values)
            assert [float(text) for text in shown] == [extreme] * all_values.count(extreme), head
        elif len(set(all_values)) == 1:
            assert shown == []
    near = view.locator("#metrics tbody tr", has=view.locator(".chip:text-is('not significantly worse')"))
    assert near.locator(".point-link").all_text_contents() == ["fp32/top_p temperature=0.7"], (
        "within 2 of the best"
    )
    view.click("#all-metrics")
    equal = view.locator("#metrics td:has-text('all equal')")
    assert equal.count() == 12, "looped is 0 everywhere"
    assert equal.first.locator(".track").count() == 0
    equal.first.click()
    assert "in all samples: there is no interval" in view.text_content("#detail")
    assert "p-values test that" in view.text_content("#metrics-caption")


def test_without_an_answer_the_page_begins_with_its_table(
    tmp_path: Path, open_page: Open, swept: Path
) -> None:
    from harness.analysis.comparison import plain_comparison
    from harness.analysis.point_results import point_results
    from harness.report.page.compare_page import compare_html

    sweep = load_sweep(swept.parent / "outputs" / "sweeps" / "swept-0123456789")
    points = point_results(sweep)
    path = tmp_path / "plain.html"
    path.write_text(compare_html(sweep, points, comparison=plain_comparison(points)), encoding="utf-8")
    view = open_page(path).view
    view.wait_for_selector("#metrics tbody tr")
    for hidden in (".answer", "#curves", "#heat"):
        assert view.locator(hidden).is_hidden()
    assert swept_comparison(points).answer, "the same points with an answer have all three"


def test_a_wide_table_has_a_shadow_where_it_goes_on(swept: Path, open_page: Open) -> None:
    view = open_page(swept, size=PHONE).view
    frame = view.locator(".scroll-frame", has=view.locator("#metrics"))
    view.wait_for_selector(".scroll-frame.more-right #metrics")
    shadow = "(node) => getComputedStyle(node, '::after').opacity"
    view.wait_for_function(f"(node) => ({shadow})(node) === '1'", arg=frame.element_handle())
    assert "more-left" not in frame.get_attribute("class")
    view.locator(".scroll:has(#metrics)").evaluate("(node) => node.scrollTo(node.scrollWidth, 0)")
    view.wait_for_selector(".scroll-frame.more-left:not(.more-right) #metrics")


@pytest.mark.parametrize("dark", [False, True])
def test_dots_follow_the_theme_and_show_strategy_and_precision(
    swept: Path, open_page: Open, dark: bool
) -> None:
    page = open_page(swept, dark=dark)
    view = page.view
    view.wait_for_selector("#metrics .dot")
    colour = "(node) => getComputedStyle(node).backgroundColor"
    named = view.locator("#metrics tbody tr", has_text="temperature=0.7")
    runs = dict(zip(named.locator(".point-link").all_text_contents(), named.all(), strict=True))
    dots = {name: row.locator(".dot") for name, row in runs.items()}
    assert len(dots) == 4
    before = {name: dot.evaluate(colour) for name, dot in dots.items()}
    for strategy in ("top_p", "min_p"):
        one, other = (f"{precision}/{strategy} temperature=0.7" for precision in ("fp32", "bnb_nf4"))
        assert before[one] == before[other], "one hue for a strategy"
        assert "circle" in dots[one].get_attribute("class")
        assert "square" in dots[other].get_attribute("class")
    assert len(set(before.values())) == 2
    view.click("#theme")
    after = {name: dot.evaluate(colour) for name, dot in dots.items()}
    assert all(after[name] != before[name] for name in dots)
    again = open_page(swept, dark=not dark).view
    again.wait_for_selector("#metrics .dot")
    first = again.locator("#metrics tbody tr", has_text="temperature=0.7").first.locator(".dot")
    assert first.evaluate(colour) == next(iter(after.values())), "as if it had been opened so"


def test_parameter_importance_has_a_sign_and_says_what_is_confounded(tmp_path: Path, open_page: Open) -> None:
    keys = {"decoding.temperature": (0.4, 0.7, 1.0), "decoding.top_p": (0.8, 0.9)}
    view = open_page(write_swept(tmp_path, keys=keys)).view
    table = view.locator(".panel:has(h2:text-is('Parameter importance')) table")
    assert table.locator("thead th").all_text_contents() == ["metric", "decoding", "temperature", "top_p"]
    repeated = table.locator("tr:has-text('rep-4') td").all_text_contents()
    assert "↓ −0.120 from 0.4 to 1.0" in repeated[1], "0.4 - 0.2 x temperature"
    chrf = table.locator("tr:has-text('chrF') td").all_text_contents()
    values = [
        chrf_of("fp32", "top_p", dict(zip(keys, each, strict=True))) for each in product(*keys.values())
    ]
    mean = sum(values) / len(values)
    assert f"top_p {mean:.1f} to min_p {mean + 1:.1f}" in chrf[0]
    assert "optimum at 0.7" in chrf[1]
    assert "confounded" not in "".join(chrf[:2])
    assert chrf[2].endswith("confounded with quantization")


@pytest.mark.parametrize("framed", [False, True])
def test_hostile_names_stay_names_in_the_answer(tmp_path: Path, open_page: Open, framed: bool) -> None:
    page = open_page(write_hostile(tmp_path), size=PHONE, framed=framed)
    view = page.view
    view.wait_for_selector("#answer dd")
    answer = view.text_content("#answer")
    assert HOSTILE["script"][:90] in answer
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", answer)
    assert view.locator("#answer script, #answer img").count() == 0
    assert page.overflow() <= 0


def test_expectations_close_the_answer(tmp_path: Path, open_page: Open) -> None:
    view = open_page(write_compare(tmp_path)).view
    view.wait_for_selector("#answer dd")
    assert view.locator("#answer > div").last.text_content() == "Expected1 of 2 expectations missed."
    assert view.locator("#answer > div.bad dt").first.text_content() == "Failed"
