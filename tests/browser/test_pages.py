"""The pages in a browser: every view from disk and as MLflow shows it, light and dark, wide and narrow."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_points import HOSTILE, PROMPTS

sys.path.append(str(Path(__file__).parent))

from made_pages import (
    NAMES_OF_OBJECTS,
    plots_of,
    rows_of,
    write_compare,
    write_hostile,
    write_names_of_objects,
    write_tokens,
)

DESKTOP, PHONE = (1440, 900), (390, 844)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_compare(tmp_path_factory.mktemp("compare"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens"))


def through_every_view(page: Any, wide: bool) -> None:
    """Click through all there is; the body never grows wider than the window."""
    view = page.view
    view.wait_for_selector("#metrics tbody tr")
    for chart in ("pareto", "entropy", "ttft", "itl"):
        view.locator(f"#chart-{chart}").scroll_into_view_if_needed()
        view.wait_for_selector(f"#chart-{chart}[data-drawn]")
    view.click("#all-metrics")
    view.click("#intervals")
    assert page.overflow() <= 0
    view.click("#tabs a[data-view=prompts]")
    view.wait_for_selector("#columns .text")
    assert page.overflow() <= 0
    for mode in ("Processed", "Entropy", "Rank", "Candidates", "Model"):
        view.click(f"#modes button:has-text('{mode}')")
    view.click("#diff")
    view.wait_for_selector("#columns .in-diff")
    assert page.overflow() <= 0
    view.click("#layouts button:has-text('Tree')")
    view.wait_for_selector("#tree .branch")
    assert page.overflow() <= 0
    view.click("#layouts button:has-text('Side by side')")
    if not wide:
        view.click("#open-picker")
        view.wait_for_selector("#picker.open")
    view.locator("#prompt-list button").nth(1).click()
    view.wait_for_selector("#columns .text")
    view.locator("#columns .tok").first.click()
    view.wait_for_selector("#detail:visible")
    assert page.overflow() <= 0
    page.tab.keyboard.press("Escape")
    view.wait_for_selector("#detail", state="hidden")
    view.click("#theme")
    view.click("#tabs a[data-view=runs]")
    view.wait_for_selector("#settings tbody tr")
    view.click("#differences-only")
    assert page.overflow() <= 0
    view.click("#tabs a[data-view=overview]")
    view.wait_for_selector("#metrics:visible")


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("size", "dark", "framed"),
    [(DESKTOP, False, False), (PHONE, True, False), (DESKTOP, True, True), (PHONE, False, True)],
)
def test_every_view_can_be_clicked_through(
    compare: Path, open_page: Open, size: tuple[int, int], dark: bool, framed: bool
) -> None:
    through_every_view(open_page(compare, size=size, dark=dark, framed=framed), wide=size == DESKTOP)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("size", "framed"), [(DESKTOP, True), (PHONE, False)])
def test_hostile_texts_stay_texts_in_every_view(
    hostile: Path, open_page: Open, size: tuple[int, int], framed: bool
) -> None:
    page = open_page(hostile, size=size, framed=framed, dark=framed)
    through_every_view(page, wide=size == DESKTOP)
    view = page.view
    view.click("#tabs a[data-view=prompts]")
    scripts = view.evaluate("() => document.querySelectorAll('script').length")
    for _ in HOSTILE:
        view.wait_for_selector("#columns .text")
        assert page.overflow() <= 0
        name = view.text_content("#prompt-id")
        shown = view.evaluate(
            "() => [...document.querySelectorAll('#columns .column')]"
            ".map((c) => c.querySelector('.text')?.textContent ?? '')"
        )
        if name == "bidi":
            assert "user⟨RLO⟩evil⟨PDF⟩ ⟨LRI⟩inside⟨PDI⟩ ⟨ZWSP⟩⟨RLM⟩⟨BOM⟩⟨SHY⟩ end" in shown[0]
        if name == "control":
            assert "nul⟨NUL⟩ bell⟨BEL⟩ esc⟨ESC⟩[31mred" in shown[0]
        if name == "script":
            assert HOSTILE["script"] in shown[0]
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00]", "".join(shown))
        page.tab.keyboard.press("j")
        view.wait_for_timeout(60)
    found = view.evaluate(
        "() => [...['img', 'script'].map((tag) => document.querySelectorAll(tag).length), document.title]"
    )
    assert found[0] == 0
    assert found[1] == scripts
    assert "OWNED" not in found[2].replace("document.title='OWNED'", "")


def test_no_chart_has_a_glyph_for_each_run(compare: Path, open_page: Open) -> None:
    """A sweep may have a thousand runs, and Bokeh takes milliseconds a glyph."""
    view = open_page(compare).view
    runs = view.locator("#metrics tbody tr").count()
    for chart in ("pareto", "entropy", "ttft", "itl"):
        view.locator(f"#chart-{chart}").scroll_into_view_if_needed()
        view.wait_for_selector(f"#chart-{chart}[data-drawn]")
    glyphs = view.evaluate(
        "[...Bokeh.index.roots].flatMap((each) => [...each.model.references()])"
        ".filter((model) => model.type === 'Figure').map((figure) => figure.renderers.length)"
    )
    assert len(glyphs) == 4
    assert max(glyphs) <= 5 < runs


def test_the_heading_of_a_section_of_settings_spans_the_table(compare: Path, open_page: Open) -> None:
    """A style of the tree's groups made it as narrow as a word, which then broke."""
    view = open_page(compare, "#/runs").view
    view.wait_for_selector("#settings th.group")
    width = "(node) => node.getBoundingClientRect().width"
    table = view.locator("#settings").evaluate(width)
    for heading in view.locator("#settings th.group").all():
        assert heading.evaluate(width) > 0.95 * table


def test_a_tree_that_goes_on_has_a_shadow_and_its_dots_a_title(compare: Path, open_page: Open) -> None:
    view = open_page(compare, "#/prompts/chat?layout=tree").view
    view.wait_for_selector("#tree .branch")
    assert view.locator("#tree .scroll-frame > .tree-scroll").count() == 1
    for dots in view.locator("#tree .dots").all():
        title = dots.get_attribute("title")
        assert title.startswith(f"{dots.text_content().strip()} outputs:")
    view.locator("#tree .tree-scroll").evaluate("(node) => { node.style.width = '60px'; }")
    view.wait_for_selector("#tree .scroll-frame.more-right")


def test_ticks_are_the_measurements_and_few_of_them_have_no_95th_percentile(
    compare: Path, open_page: Open
) -> None:
    view = open_page(compare).view
    (plot,) = plots_of(view, "ttft")
    runs = len(plot["medians"]["y"])
    assert len(plot["ticks"]["x"]) == runs, "each was timed once"
    assert plot["tails"]["p95"] == []
    panel = view.text_content(".panel:has(#chart-ttft) .caption")
    assert "Ticks: individual measurements; bar" in panel
    assert "percentile" not in panel


def test_a_link_to_a_view_opens_it_again(compare: Path, open_page: Open) -> None:
    first = open_page(compare)
    view = first.view
    view.click("#metrics thead button:has-text('ITL')")
    assert view.evaluate("() => location.hash") == "#/overview?sort=latency%2Fitl_p50_ms%20up"
    order = view.locator("#metrics tbody tr").all_text_contents()
    assert (
        open_page(compare, view.evaluate("() => location.hash"))
        .view.locator("#metrics tbody tr")
        .all_text_contents()
        == order
    )

    view.click("#tabs a[data-view=prompts]")
    view.wait_for_selector("#columns .text")
    first.tab.keyboard.press("j")
    first.tab.keyboard.press("c")
    view.select_option("#vs", label="fable_small/greedy")
    view.click("#open-runs")
    view.fill("#run-filter", "greedy")
    address = view.evaluate("() => location.hash")
    again = open_page(compare, address).view
    again.wait_for_selector("#columns .text")
    assert again.text_content("#prompt-id") == view.text_content("#prompt-id") == "email"
    assert again.text_content("#modes [aria-pressed=true]") == "Processed"
    assert again.locator("#columns .column").count() == 2
    parts = again.locator("#columns .column.chosen .stacked > span").all_text_contents()
    assert parts == ["fable_small", "greedy"]

    view.click("#tabs a[data-view=runs]")
    view.select_option("#run", label="fable_small/temperature")
    again = open_page(compare, view.evaluate("() => location.hash")).view
    again.wait_for_selector("#settings tbody tr")
    assert again.locator("#run option:checked").text_content() == "fable_small/temperature"
    first.tab.go_back()
    view.wait_for_selector("#settings")
    assert view.locator("#run option:checked").text_content() != "fable_small/temperature"


def test_a_reader_finds_where_outputs_diverge_and_how_likely_each_token_was(
    compare: Path, open_page: Open
) -> None:
    view = open_page(compare).view
    view.click("#answer a:has-text('chat')")
    view.wait_for_selector("#columns .text")
    assert view.text_content("#prompt-id") == "chat"
    line = view.locator("#columns .column:not(.chosen) .divergence").first
    assert re.search(r"token \d+ .*% model, .*% processed.*% model, .*% processed", line.text_content())
    line.locator("button").click()
    token = view.locator("#columns .column:not(.chosen) .forks").first
    token.hover()
    detail = view.text_content("#detail")
    for word in ("alternatives", "model", "processed", "rank", "candidates"):
        assert word in detail
    assert view.locator("#detail .tops tbody tr").count() >= 5
    assert "rating: 4" in view.text_content("#columns")
    assert "✗ expected <b>a missed one: got <i>else" in view.text_content("#columns")
    view.click("#layouts button:has-text('Tree')")
    view.wait_for_selector("#tree .chances")
    assert re.search(r"% model.*processed .*%", view.locator("#tree .chances").first.text_content())


def test_the_list_is_sorted_by_disagreement_and_searched_through_texts(
    compare: Path, open_page: Open
) -> None:
    view = open_page(compare, "#/prompts").view
    view.wait_for_selector("#columns .text")
    names = [name.strip() for name in view.locator("#prompt-list .name").all_text_contents()]
    assert names == list(reversed(PROMPTS))
    view.select_option("#order", "prompts")
    view.wait_for_function("() => document.querySelector('#prompt-list .name').textContent === 'seed-1'")
    word = view.evaluate("() => document.querySelector('#columns .text').textContent")[5:40].split("↵")[0]
    view.fill("#search", word)
    view.wait_for_function("() => /^\\d+ prompt/.test(document.querySelector('#found').textContent)")
    assert view.locator("#prompt-list li").count() >= 1
    view.fill("#search", "no such words anywhere")
    view.wait_for_function("() => document.querySelector('#found').textContent === '0 prompts'")


def test_what_is_shown_is_exported_as_csv(compare: Path, open_page: Open) -> None:
    page = open_page(compare)
    view = page.view
    view.click("#open-export")
    rows = rows_of(view.input_value("#export-text"))
    assert len(rows) == 6
    assert rows[0]["label"] == "fable_tiny/fp32/greedy"
    assert float(rows[2]["latency/itl_p50_ms"]) > 0
    assert rows[2]["latency/itl_p50_ms word"] == "higher"
    assert rows[1]["status"] == "failed"
    with page.tab.expect_download() as waiting:
        view.click("#download")
    assert waiting.value.suggested_filename == "demo-overview.csv"
    assert rows_of(Path(waiting.value.path()).read_text(encoding="utf-8")) == rows
    page.tab.keyboard.press("Escape")
    view.click("#tabs a[data-view=prompts]")
    view.wait_for_selector("#columns .text")
    view.click("#open-export")
    rows = rows_of(view.input_value("#export-text"))
    assert len(rows) == 8  # four points, two samples each
    assert {row["prompt_id"] for row in rows} == {"chat"}
    shown = view.evaluate("() => document.querySelector('#columns .text').textContent")
    assert rows[0]["output"].split("\n")[0][:20] in shown
    assert [row["feedback rating"] for row in rows if row["feedback rating"]] == ["4"]


def test_a_cell_of_a_csv_is_never_a_formula(hostile: Path, open_page: Open) -> None:
    view = open_page(hostile, "#/prompts/long").view
    view.wait_for_selector("#columns .text")
    view.click("#open-export")
    rows = rows_of(view.input_value("#export-text"))
    assert rows[0]["output"] == HOSTILE["long"]
    assert all(not value.startswith(("=", "+", "@")) for row in rows for value in row.values())


def test_names_that_every_object_has_are_only_names(tmp_path: Path, open_page: Open) -> None:
    path = write_names_of_objects(tmp_path)
    for name in ("constructor", "__proto__", "0"):
        view = open_page(
            path, f"#/prompts/{name}?colour={name}&order={name}&layout={name}&sample={name}"
        ).view
        view.wait_for_selector("#columns .text")
        assert view.text_content("#prompt-id") == name
        assert view.text_content("#prompt-text").replace("␣", " ").strip()
        assert view.locator("#columns .column").count() == 3
        assert view.locator("#prompt-list li").count() == len(NAMES_OF_OBJECTS)
    name = "constructor"
    view = open_page(path, f"#/overview?sort={name}&x={name}&y={name}").view
    view.wait_for_selector("#metrics tbody tr")
    view = open_page(path, f"#/runs?run={name}&other=__proto__").view
    view.wait_for_selector("#settings tbody tr")


def test_the_keyboard_reaches_everything(compare: Path, open_page: Open) -> None:
    page = open_page(compare)
    view, press = page.view, page.tab.keyboard.press
    press("2")
    view.wait_for_selector("#columns .text")
    assert view.text_content("#prompt-id") == "chat"
    press("j")
    view.wait_for_function("() => document.querySelector('#prompt-id').textContent === 'email'")
    press("k")
    view.wait_for_function("() => document.querySelector('#prompt-id').textContent === 'chat'")
    press("c")
    assert view.text_content("#modes [aria-pressed=true]") == "Processed"
    press("t")
    view.wait_for_selector("#tree .branch")
    press("d")
    view.wait_for_selector("#columns .in-diff")
    press("/")
    assert view.evaluate("() => document.activeElement.id") == "search"
    press("2")
    assert view.input_value("#search") == "2"
    press("Escape")
    press("3")
    view.wait_for_selector("#settings tbody tr")
    press("?")
    assert view.evaluate("() => document.querySelector('#help').open")
    press("Escape")
    press("1")
    view.wait_for_selector("#metrics:visible")
    press("2")
    view.locator("#columns .tok").first.focus()
    press("ArrowRight")
    assert view.evaluate("() => document.activeElement.classList.contains('tok')")
    assert view.is_visible("#detail")


def test_the_theme_follows_the_system_and_the_button(compare: Path, open_page: Open) -> None:
    page = open_page(compare, dark=True)
    paper = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.view.evaluate(paper)
    page.view.click("#theme")
    light = page.view.evaluate(paper)
    assert dark == "rgb(19, 20, 24)"
    assert light == "rgb(247, 247, 245)"
    page.view.click("#theme")
    assert page.view.evaluate(paper) == dark


@pytest.mark.parametrize(("size", "framed"), [(DESKTOP, False), (PHONE, True)])
def test_the_page_of_one_point_is_the_same_machinery(
    tokens: Path, open_page: Open, size: tuple[int, int], framed: bool
) -> None:
    page = open_page(tokens, size=size, framed=framed)
    view = page.view
    view.wait_for_selector("#columns .tok")
    assert view.locator("#tabs a").count() == 2
    assert view.text_content("#prompt-id") == next(iter(PROMPTS))
    assert view.locator("#prompt-text .tok").count() > 0
    assert not view.is_visible("#vs")
    assert page.overflow() <= 0
    view.locator("#columns .tok").nth(3).click()
    assert "alternatives" in view.text_content("#detail")
    page.tab.keyboard.press("Escape")
    view.click("#tabs a[data-view=runs]")
    view.wait_for_selector("#settings tbody tr")
    assert page.overflow() <= 0
