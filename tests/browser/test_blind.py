"""Blind comparison in a browser: no names, votes in the link and in a file, results with intervals."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from made_pages import write_scored

from harness.analysis.compare_points import compare
from harness.analysis.point_results import point_results
from harness.analysis.preferences import preferences
from harness.report.page.compare_page import compare_html
from harness.store.sweeps import load_sweep
from harness.store.votes import add_ballot, known_votes, read_ballot

DESKTOP, PHONE = (1440, 900), (390, 844)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scored(tmp_path_factory.mktemp("scored"))


def judge_all(page: Any, keys: list[str]) -> int:
    """Judge pairs until none is left; return how many there were."""
    view, count = page.view, 0
    view.wait_for_selector("#blind .choices")
    while view.locator("#blind [data-choice]").count():
        assert not re.search("greedy|top_p|temperature", view.inner_text("#blind"))
        page.tab.keyboard.press(keys[count % len(keys)])
        count += 1
        view.wait_for_selector(f"#blind .main:has-text('Save {count} vote')")
        view.wait_for_selector("#blind[aria-busy=false]")
    return count


@pytest.mark.parametrize(("size", "dark", "framed"), [(DESKTOP, False, False), (PHONE, True, True)])
def test_pairs_are_judged_without_names_until_none_is_left(
    scored: Path, open_page: Open, size: tuple[int, int], dark: bool, framed: bool
) -> None:
    page = open_page(scored, "#/prompts?layout=blind", size=size, dark=dark, framed=framed)
    view = page.view
    if framed:
        view.click("#tabs a[data-view=prompts]")
        view.click("#layouts button:has-text('Blind')")
        view.locator("#blind .choices").wait_for()
        view.locator("#prompt-id").click()  # the frame gets the keys
    # Of each of three prompts two outputs are the same: two pairs of three differ; of colours all three.
    assert judge_all(page, ["ArrowLeft", "=", "ArrowRight"]) == 7
    assert page.overflow() <= 0
    view.click("#blind .results summary")
    rows = view.locator("#blind .wins tbody tr")
    assert rows.count() == 3
    counts = [[int(n) for n in row.locator("td").all_text_contents()[2:]] for row in rows.all()]
    wins, ties, losses = map(sum, zip(*counts, strict=True))
    assert wins == losses == 5
    assert ties == 4
    assert page.overflow() <= 0


def test_votes_are_in_the_link_and_come_home_as_a_file(scored: Path, open_page: Open, tmp_path: Path) -> None:
    page = open_page(scored, "#/prompts/colours?layout=blind")
    view = page.view
    view.wait_for_selector("#blind [data-choice]")
    texts = view.locator("#blind .pair-of .text").all_text_contents()
    page.tab.keyboard.press("ArrowRight")
    view.wait_for_selector("#blind .main:has-text('Save 1 vote')")
    page.tab.keyboard.press("=")
    view.wait_for_selector("#blind .main:has-text('Save 2 votes')")
    page.tab.keyboard.press("u")
    view.wait_for_selector("#blind .main:has-text('Save 1 vote')")
    view.click("#tabs a[data-view=overview]")
    link = view.evaluate("location.hash")
    assert link.startswith("#/overview?ballot=")

    again = open_page(scored, link)
    again.view.click("#tabs a[data-view=prompts]")
    again.view.click("#layouts button:has-text('Blind')")
    again.view.wait_for_selector("#blind .main:has-text('Save 1 vote')")
    again.view.click("#blind .main")
    with again.tab.expect_download() as waiting:
        again.view.click("#download")
    assert waiting.value.suggested_filename == "demo-votes.json"
    saved = tmp_path / "votes.json"
    waiting.value.save_as(saved)
    (vote,) = json.loads(saved.read_text(encoding="utf-8"))["votes"]
    assert (vote["prompt_id"], vote["choice"]) == ("colours", "right")

    sweep = load_sweep(next((scored.parent / "outputs" / "sweeps").iterdir()))
    add_ballot(sweep, read_ballot(str(saved)), str(saved))
    (known,) = known_votes(sweep.folder)
    outputs = {
        p.point.label: dict(
            zip(*p.stored.columns("generations", ["prompt_id", "output"]).values(), strict=True)
        )["colours"]
        for p in point_results(sweep)
        if p.stored
    }
    assert [outputs[known.left], outputs[known.right]] == texts

    points = point_results(sweep)
    path = tmp_path / "home.html"
    votes = known_votes(sweep.folder)
    path.write_text(compare_html(sweep, points, comparison=compare(sweep, points), votes=votes), "utf-8")
    home = open_page(path, "#/prompts?layout=blind").view
    home.wait_for_selector("#blind .choices")
    home.click("#blind .results summary")
    assert "Brought home: 1 vote" in home.inner_text("#blind")
    low, high = (round(100 * end) for end in preferences(votes)[0].interval)
    first = home.locator("#blind .wins tbody tr").first.locator("td").all_text_contents()
    assert first == ["100%", f"{low} to {high}%", "1", "0", "0"]
    (sweep.folder / "votes.json").unlink()


def test_a_link_that_somebody_made_up_does_no_harm(scored: Path, open_page: Open) -> None:
    votes = "0_0_1_0_l.0_0_9_0_l.x.9_0_1_0_r.<b>.0_1_1_0_t.__proto___0_1_0_l"
    view = open_page(scored, f"#/prompts?layout=blind&ballot=x&votes={votes}").view
    view.wait_for_selector("#blind .main:has-text('Save 2 votes')")


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("size", "framed"), [(DESKTOP, False), (PHONE, True)])
def test_hostile_references_turns_and_outputs_stay_texts(
    tmp_path: Path, open_page: Open, size: tuple[int, int], framed: bool
) -> None:
    page = open_page(write_scored(tmp_path, hostile=True), size=size, framed=framed)
    view = page.view
    view.click("#tabs a[data-view=prompts]")
    view.wait_for_selector("#columns .text")
    for layout in ("Side by side", "Tree", "Blind"):
        view.click(f"#layouts button:has-text('{layout}')")
        for _ in range(11):
            view.wait_for_timeout(60)
            assert page.overflow() <= 0
            shown = view.inner_text(".reading")
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00]", shown)
            page.tab.keyboard.press("j")
    assert view.evaluate("() => document.querySelectorAll('img').length") == 0
    assert "OWNED" not in view.evaluate("() => document.title")
