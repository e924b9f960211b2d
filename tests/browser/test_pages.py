"""The report's pages: what their script draws, and that hostile texts stay texts."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

from fake_points import HOSTILE, make_sweep, write_point

from harness.report import write_sweep_reports
from harness.report.tokens_html import tokens_html


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_tokens_page_draws_the_first_prompt_and_no_hostile_text_becomes_markup(
    dom: Callable[[Path], str], outputs: Path
) -> None:
    keys = ["script", "bidi", "control"]
    for key in keys:
        stored = write_point(outputs, key, {key: None}, seed=1)
        path = outputs / f"{key}.html"
        path.write_text(tokens_html(stored, HOSTILE["script"]), encoding="utf-8")
        drawn = dom(path)
        title = re.search("<title>(.*?)</title>", drawn, re.S)
        assert title is not None
        assert html.unescape(title[1]).startswith("</script>")
        view = drawn[drawn.index('id="view"') : drawn.index('id="aside"')]
        assert "<script" not in view
        assert "<img" not in view
        shown = text_of(view)
        assert len(re.findall('class="tok', view)) == len(stored.rows("tokens"))
        if key == "script":
            assert HOSTILE["script"] in shown
        if key == "bidi":
            assert "user⟨RLO⟩evil⟨PDF⟩ ⟨LRI⟩inside⟨PDI⟩ ⟨ZWSP⟩⟨RLM⟩⟨BOM⟩⟨SHY⟩ end" in shown
            assert not re.search("[\u202a-\u202e\u2066-\u2069]", shown)
        if key == "control":
            assert "nul⟨NUL⟩ bell⟨BEL⟩ esc⟨ESC⟩[31mred" in shown
            assert "line↵\nnext⟨CR⟩ ls⟨LS⟩ps⟨PS⟩" in shown


def test_compare_page_puts_the_points_side_by_side(dom: Callable[[Path], str], outputs: Path) -> None:
    sweep = make_sweep(outputs, failed="top_p", tokens=5)
    write_sweep_reports(sweep)
    drawn = dom(sweep.folder / "compare.html")
    columns = drawn[drawn.index('id="columns"') :]
    for point in sweep.points:
        assert point.label in columns
    assert columns.count("<article") == len(sweep.points)
    assert "[red]no[/red] such ⟨ESC⟩[31mthing" in columns
