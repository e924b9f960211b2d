"""The view Prompts in a browser: references, scores, chats as turns, folded outputs, the tree, agreement."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from made_pages import write_compare, write_scored

DESKTOP, PHONE = (1440, 900), (390, 844)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scored(tmp_path_factory.mktemp("scored"))


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_compare(tmp_path_factory.mktemp("compare"))


def columns(view: Any) -> list[str]:
    view.wait_for_selector("#columns .text")
    return view.locator("#columns .column > header").all_text_contents()


def test_the_reference_comes_first_and_every_output_has_its_scores(scored: Path, open_page: Open) -> None:
    view = open_page(scored, "#/prompts/capital?identical=1").view
    assert columns(view) == ["Reference", "greedybaseline", "top_p", "temperature"]
    assert view.text_content("#columns .reference .text") == "Lisbon."
    line = view.locator("#columns .sample-facts").all_text_contents()
    assert line[1].startswith("chrF 100.0politeness 01 token")
    assert re.match(r"chrF \d+\.\dpoliteness", line[3])
    assert view.locator("#columns .passed, #columns .failed").count() == 0, "the question is about chrF"
    view.click("#prompt-list button:has-text('hello')")  # without a reference
    view.wait_for_function("() => document.querySelector('#prompt-id').textContent === 'hello'")
    assert columns(view)[0] == "greedybaseline"
    assert "chrF" not in view.locator("#columns .sample-facts").first.text_content()


def test_an_output_passes_or_fails_where_the_question_is_about_it(tmp_path: Path, open_page: Open) -> None:
    view = open_page(write_scored(tmp_path, goal="exact_match"), "#/prompts/capital?identical=1").view
    columns(view)
    line = view.locator("#columns .sample-facts").all_text_contents()
    assert line[1].startswith("✓ pass")
    assert line[3].startswith("✗ fail")


def test_prompts_are_sorted_by_score_and_those_without_come_last(scored: Path, open_page: Open) -> None:
    view = open_page(scored, "#/prompts").view
    view.wait_for_selector("#columns .text")
    names = "#prompt-list .name"
    assert view.locator(names).all_text_contents() == ["colours", "capital", "hello"]  # by disagreement
    # Both have an output of 100; the worst one, and so the largest spread, is one of capital.
    for order in ("spread", "worst", "hardest", "best"):
        view.select_option("#order", order)
        view.wait_for_selector("#prompt-list li:first-child .name:has-text('capital')")
        assert view.locator(names).all_text_contents() == ["capital", "colours", "hello"]
        assert "to 100.0" in view.locator("#prompt-list .id").nth(1).text_content()
        view.select_option("#order", "disagreement")
        view.wait_for_selector("#prompt-list li:first-child .name:has-text('colours')")


def test_a_chat_is_shown_as_turns_and_named_by_its_last_message(scored: Path, open_page: Open) -> None:
    view = open_page(scored, "#/prompts/hello").view
    view.wait_for_selector("#columns .text")
    assert view.locator("#prompt-turns .role").all_text_contents() == ["system", "user"]
    assert view.locator("#prompt-turns .text").all_text_contents() == ["Be kind.", "Say hello."]
    starts = view.locator("#prompt-list .start").all_text_contents()
    assert sorted(starts) == ["A list of two colours:", "Say hello.", "What is the capital of Portugal?"]
    assert not view.is_visible("#prompt-text")
    view.click("#rendered")
    view.wait_for_selector("#prompt-text:visible")
    assert view.text_content("#prompt-text") == "<|system|>Be kind.<|user|>Say hello.<|assistant|>"
    view.click("#prompt-list button:has-text('colours')")  # a text
    view.wait_for_function("() => document.querySelector('#prompt-id').textContent === 'colours'")
    assert view.locator("#prompt-turns .turn").count() == 0
    assert view.text_content("#prompt-text") == "A list of two colours:"


def test_identical_outputs_are_folded_until_they_are_asked_for(scored: Path, open_page: Open) -> None:
    page = open_page(scored, "#/prompts/capital")
    view = page.view
    assert columns(view) == ["Reference", "greedybaseline", "temperature"]
    assert view.text_content("#columns .same-as") == "same output: top_p show"
    view.click("#columns .same-as button")
    view.wait_for_function("() => document.querySelectorAll('#columns .column').length === 4")
    page.tab.keyboard.press("i")
    view.wait_for_function("() => document.querySelectorAll('#columns .column').length === 3")


def test_runs_are_picked_and_the_link_keeps_the_choice(scored: Path, open_page: Open) -> None:
    view = open_page(scored, "#/prompts/capital?identical=1").view
    columns(view)
    view.click("#open-runs")
    view.locator("#run-picker input[type=checkbox]").nth(1).uncheck()
    view.wait_for_function("() => document.querySelectorAll('#columns .column').length === 3")
    assert view.text_content("#open-runs") == "Runs 2 of 3"
    again = open_page(scored, view.evaluate("location.hash")).view
    assert columns(again) == ["Reference", "greedybaseline", "temperature"]
    view.click("#run-picker .run:nth-of-type(2) .only")
    view.wait_for_function("() => document.querySelectorAll('#columns .column').length === 2")
    view.click("#all-runs")
    view.wait_for_function("() => document.querySelectorAll('#columns .column').length === 4")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_no_name_breaks_within_a_word(compare: Path, open_page: Open, size: tuple[int, int]) -> None:
    page = open_page(compare, "#/prompts", size=size)
    view = page.view
    columns(view)
    assert page.overflow() <= 0
    broken = view.evaluate(
        """() => [...document.querySelectorAll("#columns .stacked > span")].filter((part) => {
          const range = document.createRange();
          const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
          for (let node; (node = walker.nextNode()); ) {
            range.selectNodeContents(node);
            if (range.getClientRects().length > 1) return true;
          }
          return false;
        }).map((part) => part.textContent)"""
    )
    assert broken == []


def test_the_next_prompt_opens_at_its_top(compare: Path, open_page: Open) -> None:
    page = open_page(compare, "#/prompts")
    view = page.view
    columns(view)
    page.tab.mouse.wheel(0, 500)
    view.wait_for_function("() => scrollY > 300")
    page.tab.keyboard.press("j")
    view.wait_for_function(
        "() => document.querySelector('#prompt-id').textContent === 'email' && scrollY < 40"
    )


def test_marks_are_no_text_and_spaces_leave_no_colour_at_line_ends(compare: Path, open_page: Open) -> None:
    view = open_page(compare, "#/prompts?sample=0").view
    columns(view)
    assert view.locator("#columns .diverges svg").count() >= 2
    copied = view.evaluate(
        """() => {
          const text = [...document.querySelectorAll("#columns .text")][1];
          getSelection().selectAllChildren(text);
          return getSelection().toString();
        }"""
    )
    view.click("#open-export")
    exported = view.input_value("#export-text")
    # The first line of the output, as it is in the CSV.
    assert copied.split("\n")[0].rstrip("↵ ").strip() in exported
    slivers = view.evaluate(
        """() => [...document.querySelectorAll("#columns .ink")].filter((ink) =>
          ink.textContent.trim() && (ink.textContent.startsWith(" ") || ink.getClientRects().length > 1)
        ).length"""
    )
    assert slivers == 0


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_the_tree_shows_tokens_first_and_names_as_dots(
    scored: Path, open_page: Open, size: tuple[int, int], dark: bool
) -> None:
    page = open_page(scored, "#/prompts/capital?layout=tree", size=size, dark=dark)
    view = page.view
    view.wait_for_selector("#tree .branch")
    branch = view.locator("#tree .segment.last").first
    kinds = branch.evaluate("(segment) => [...segment.children].map((each) => each.className)")
    assert kinds == ["text run", "chances"]
    dots = branch.locator(".dots")
    assert dots.text_content() == "2"
    assert dots.locator(".dot").count() == 2
    dots.click()
    assert branch.locator(".names .leaf").all_text_contents() == ["greedy", "top_p"]
    assert view.locator("#tree .leaf").last.text_content() == "temperature"
    assert page.overflow() <= 0


def test_tokens_are_numbered_from_one_and_greedy_truncates_nothing(scored: Path, open_page: Open) -> None:
    view = open_page(scored, "#/prompts/capital?identical=1").view
    columns(view)
    view.locator("#columns .column:nth-child(4) .forks").click()
    detail = view.inner_text("#detail")
    assert "token 1 ·" in detail
    assert "token 1" in view.inner_text("#columns .column:nth-child(4) .divergence")
    assert "no truncation" in detail
    assert "candidate" not in detail
    view.locator("#columns .column:nth-child(3) .tok").first.click()
    assert "50 candidates, 90.0% of probability mass" in view.inner_text("#detail")


def test_agreement_opens_the_outputs_of_a_pair(scored: Path, open_page: Open) -> None:
    page = open_page(scored, "#/overview")
    view = page.view
    cells = view.locator("#agreement tbody tr:nth-child(2) td").all_text_contents()
    assert cells == [".33", "", ".00"]
    assert page.overflow() <= 0
    view.locator("#agreement tbody tr:nth-child(2) td").nth(2).locator("button").click()
    assert [name for name in columns(view) if name != "Reference"] == ["top_p", "temperature"]
