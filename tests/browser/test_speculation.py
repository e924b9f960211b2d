"""What the page shows of speculative decoding: the answer, a row a draft, charts over the block length."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drafted_sweep import drafted_sweep

sys.path.append(str(Path(__file__).parent))

from made_pages import plots_of

from harness.report import write_sweep_reports

PHONE = (390, 844)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep = drafted_sweep(tmp_path_factory.mktemp("drafted") / "outputs")
    write_sweep_reports(sweep)
    return sweep.folder / "compare.html"


def test_rows_and_charts_are_what_is_stored(page: Path, open_page: Open) -> None:
    view = open_page(page).view
    view.wait_for_selector("#speculation tbody tr")
    rows = view.locator("#speculation tbody tr")
    texts = [rows.nth(i).inner_text().replace("\n", " ").replace("\t", " ") for i in range(rows.count())]
    assert len(texts) == 4
    assert all(
        part in texts[0]
        for part in ("greedy", "best draft", "small one", "2.00", "50%", "1.50×", "[1.40, 1.60]", "▲")
    )
    assert all(
        part in texts[0] for part in ("0.700 ± 0.020", "observed 0.710", "1 − TV 0.720", "at most 0.50")
    )
    assert "▼" in texts[2]
    assert "It pays in 1 of 2 runs" in view.locator("#speculation p").first.inner_text()
    (plot,) = plots_of(view, "speculation-0")
    assert plot["lines"]["x"] == [[1, 2, 4]] * 2
    assert plot["lines"]["y"] == [[1.5, 2, 2.5]] * 2
    view.select_option("#speculation select", "speedup")
    (plot,) = plots_of(view, "speculation-0")
    assert plot["lines"]["y"][0] == pytest.approx([1.5 / 1.25, 2 / 1.5, 2.5 / 2], rel=1e-3)
    assert plot["measured"]["x"] == [2, 2]
    assert plot["measured"]["y"] == [1.5, 0.9]
    assert "speculated=speedup" in view.url


@pytest.mark.parametrize("dark", [True, False])
def test_it_fits_a_phone_and_a_link_keeps_the_chart(page: Path, open_page: Open, dark: bool) -> None:
    opened = open_page(page, "#/overview?speculated=places", size=PHONE, dark=dark)
    (plot,) = plots_of(opened.view, "speculation-0")
    assert [len(line) for line in plot["lines"]["x"]] == [4, 4]
    assert plot["lines"]["y"][0][0] == 1.0  # 24 of 24 first places
    assert opened.overflow() <= 0


def test_hostile_names_and_points_that_were_not_timed(tmp_path: Path, open_page: Open) -> None:
    sweep = drafted_sweep(tmp_path / "outputs", timed=False, hostile=True)
    write_sweep_reports(sweep)
    view = open_page(sweep.folder / "compare.html").view
    view.wait_for_selector("#speculation tbody tr")
    plots_of(view, "speculation-0")
    assert view.locator("#speculation option").count() == 2  # no speed-up
    assert view.locator("#speculation tbody tr").first.inner_text().count("–") >= 2
