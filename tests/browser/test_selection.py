"""What the page shows of chosen samples: rows, curves over their number, which samples they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sampled_sweep import sampled_sweep

sys.path.append(str(Path(__file__).parent))

from made_pages import plots_of

from harness.report import write_sweep_reports

DESKTOP, PHONE = (1440, 900), (390, 844)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selection")
    select = ["best_of", "majority", "mbr"]
    sweep = sampled_sweep(folder / "outputs", select=select, goal="reference/chrf", answer_pattern=None)
    write_sweep_reports(sweep)
    return sweep.folder / "compare.html"


def test_pass_at_k_is_drawn_over_the_number_of_samples(page: Path, open_page: Open) -> None:
    view = open_page(page).view
    view.wait_for_selector("#selection h2")
    (plot,) = plots_of(view, "selection-1")
    lines = dict(zip(("best_of", "majority", "mbr", "any", "one"), plot["lines"]["y"], strict=True))
    assert plot["lines"]["x"] == [[1, 2, 3, 4]] * 5
    two, one = [1 / 2, 5 / 6, 1, 1], [1 / 4, 1 / 2, 3 / 4, 1]
    assert lines["any"] == pytest.approx([(2 * a + b) / 3 for a, b in zip(two, one, strict=True)], rel=1e-3)
    assert lines["one"] == pytest.approx([5 / 12] * 4, rel=1e-3)
    assert len(set(plot["lines"]["colour"])) == 5
    assert len(plot["bands"]["x"]) == 2  # of many ways, pass@k and the best choice
    legend = view.locator("#selection .chart-legend").nth(1).inner_text()
    assert all(name in legend for name in ("best_of", "majority", "mbr", "pass@k", "one at random"))
    (first,) = plots_of(view, "selection-0")
    assert len(first["lines"]["y"]) == 5
    assert "best possible" in view.locator("#selection .chart-legend").first.inner_text()


def test_rows_of_chosen_samples_say_so(page: Path, open_page: Open) -> None:
    view = open_page(page).view
    view.wait_for_selector("#metrics tbody tr")
    rows = view.locator("#metrics tbody tr")
    assert rows.count() == 5
    names = [rows.nth(i).locator("th").inner_text() for i in range(5)]
    assert [name for name in names if "1 of 4" in name] == names[2:]
    facts = view.locator("header").first.inner_text()
    assert "runs 2" in facts.replace("\n", " ")
    assert "selections 3" in facts.replace("\n", " ")


def test_the_chosen_samples_are_marked_among_the_others(page: Path, open_page: Open) -> None:
    view = open_page(page, "#/prompts/two").view
    view.wait_for_selector(".column .sample")
    column = (
        view.locator(".column", has=view.locator("header", has_text="top_p"))
        .filter(has_text="sample 2")
        .first
    )
    chosen = column.locator(".sample", has_text="chosen by")
    marks = [chosen.nth(i).locator(".sample-facts").inner_text() for i in range(chosen.count())]
    by_sample = {mark.split("sample ")[1][0]: mark for mark in marks}
    assert "chosen by best_of" in by_sample["3"]
    assert "majority" in by_sample["1"]


def test_blind_comparison_has_no_chosen_samples(page: Path, open_page: Open) -> None:
    opened = open_page(page, "#/prompts/two?layout=blind")
    opened.view.wait_for_selector("#blind .choices")
    count = 0
    while opened.view.locator("#blind [data-choice]").count():
        opened.tab.keyboard.press("=")
        count += 1
        opened.view.wait_for_selector(f"#blind .main:has-text('Save {count} vote')")
        opened.view.wait_for_selector("#blind[aria-busy=false]")
    assert count == 2  # greedy and the first of top_p differ on two of three prompts


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, True), (PHONE, False)])
def test_it_fits_and_a_link_keeps_the_run(page: Path, open_page: Open, size: Any, dark: bool) -> None:
    opened = open_page(page, "#/overview?chosen=m%2Fnone%2Ftop_p", size=size, dark=dark)
    plots_of(opened.view, "selection-0")
    assert opened.overflow() <= 0
    assert "top_p" in opened.view.locator("#selection .section-head").first.inner_text()
