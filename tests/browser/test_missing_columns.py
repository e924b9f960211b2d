"""Pages of points whose backends left columns null: outputs only, or the chosen token's logprob only."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from made_pages import rows_of, write_sparse

Open = Callable[..., Any]

EMPTY = re.compile(r"NaN|undefined|\bnull\b|Infinity|\[object")


def shown_in_every_view(page: Any) -> str:
    """Click through all views, layouts and tokens; returns everything that was shown."""
    view = page.view
    view.wait_for_selector("#metrics tbody tr")
    shown = [view.inner_text("body")]
    view.click("#tabs a[data-view=prompts]")
    for layout in ("Tree", "Side by side"):
        view.click(f"#layouts button:has-text('{layout}')")
        view.wait_for_selector("#tree .branch" if layout == "Tree" else "#columns .text")
        shown.append(view.inner_text("body"))
    view.click("#diff")
    view.wait_for_selector("#columns .in-diff")
    view.click("#diff")
    for mode in view.locator("#modes button").all():
        mode.click()
        shown += [view.inner_text("body"), view.inner_text("#legend")]
    for column in view.locator("#columns .column").all():
        for token in column.locator(".tok").all()[:2]:
            token.click()
            view.wait_for_selector("#detail.pinned")
            shown += [view.inner_text("#detail"), token.get_attribute("aria-label")]
            page.tab.keyboard.press("Escape")
    view.click("#open-export")
    shown.append(view.input_value("#export-text"))
    page.tab.keyboard.press("Escape")
    view.click("#tabs a[data-view=runs]")
    view.wait_for_selector("#differences dd")
    shown.append(view.inner_text("body"))
    return "\n".join(shown)


@pytest.mark.parametrize("complete", [True, False])
def test_no_view_shows_what_was_not_recorded(tmp_path: Path, open_page: Open, complete: bool) -> None:
    page = open_page(write_sparse(tmp_path, complete))
    shown = shown_in_every_view(page)
    assert not EMPTY.search(shown), EMPTY.search(shown)
    view = page.view
    view.click("#tabs a[data-view=prompts]")
    modes = ["Model", *(["Processed", "Entropy", "Rank", "Candidates"] if complete else [])]
    assert view.locator("#modes button").all_text_contents() == modes
    texts, logprobs = (view.locator("#columns .column").nth(i) for i in (0, 1))
    assert texts.locator(".tok").count() == 0
    assert "Once upon a time" in texts.text_content()
    assert "identical to texts" in logprobs.text_content()
    if complete:
        line = view.locator("#columns .column").nth(2).locator(".divergence").text_content()
        assert re.fullmatch(r" token 1 “.*” .*% model, .*% processed “Once”", line)
    logprobs.locator(".tok").first.click()
    detail = view.inner_text("#detail")
    assert "60.7%" in detail  # exp(-0.5)
    for word in ("entropy", "rank", "alternatives", "candidate", "processed", "id "):
        assert word not in detail


def test_a_colouring_leaves_steps_without_its_column_alone(tmp_path: Path, open_page: Open) -> None:
    view = open_page(write_sparse(tmp_path), "#/prompts?colour=entropy").view
    view.wait_for_selector("#columns .tok")
    shaded = "(i) => document.querySelectorAll(`.column:nth-child(${i}) .ink[data-shade]`).length"
    assert view.evaluate(shaded, 2) == 0
    assert view.evaluate(shaded, 3) > 0
    view.click("#modes button:has-text('Model')")
    assert view.evaluate(shaded, 2) > 0


def test_null_cells_are_empty_in_the_export(tmp_path: Path, open_page: Open) -> None:
    view = open_page(write_sparse(tmp_path), "#/prompts").view
    view.wait_for_selector("#columns .text")
    view.click("#open-export")
    texts, logprobs, complete = rows_of(view.input_value("#export-text"))
    for name in ("finish_reason", "output_tokens", "mean_logprob"):
        assert texts[name] == ""
        assert complete[name] != ""
    assert logprobs["finish_reason"] == logprobs["output_tokens"] == ""
    assert float(logprobs["mean_logprob"]) < 0
