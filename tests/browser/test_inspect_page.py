"""The token walk's page, its server behind it: click, fork, compare, turn a knob; by mouse or keyboard."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cli.inspect_page import WalkServer, opened_server
from harness.cli.token_walk import TokenWalk
from harness.cli.walk_answers import WalkAnswers
from harness.config import hydra_app
from harness.config.groups import ConfigGroups
from harness.config.point import Prompts
from harness.models.load import load
from harness.prompts import prepare_prompts

PROMPT = "It was a dark and stormy"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202eevil\x1b[8m\n\ttabbed  two "
DESKTOP, PHONE = (1440, 900), (390, 844)
OpenWalk = Callable[..., Any]


@pytest.fixture(scope="module")
def serve(one_thread: None) -> Iterator[Callable[..., WalkServer]]:
    """`serve(prompt)`: a running server on the built-in model."""
    point = hydra_app.one_point(["model=fable_small"])
    loaded = load(point.model, point.quantization)
    running: list[tuple[WalkServer, threading.Thread]] = []

    def start(text: str = PROMPT) -> WalkServer:
        source = Prompts(name="inspect", items=({"prompt": text},), chat=False)
        (prompt,) = prepare_prompts(source, loaded.files, loaded.tokenizer, 1).prompts
        server = opened_server(WalkAnswers(TokenWalk(loaded, prompt), loaded, point, 20, ConfigGroups()))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def server(serve: Callable[..., WalkServer]) -> WalkServer:
    return serve()


@pytest.fixture
def open_walk(browser: Any) -> Iterator[OpenWalk]:
    """`open_walk(server, size=PHONE, dark=True)`; no script may fail, only the server is asked."""
    contexts, wrong = [], []

    def start(
        server: WalkServer, fragment: str = "", size: tuple[int, int] = DESKTOP, dark: bool = False
    ) -> Any:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda r: None if r.url.startswith((server.address, "data:")) else wrong.append(r.url),
        )
        # A refused request is a line on the console: of ours, that is what a mistake looks like.
        page.on(
            "console",
            lambda line: (
                wrong.append(line.text)
                if line.type in ("error", "warning") and "status of 400" not in line.text
                else None
            ),
        )
        page.goto(server.address + fragment)
        page.wait_for_selector("#rows tr")
        return page

    yield start
    for context in contexts:
        context.close()
    assert wrong == []


def chips(page: Any, walk: str = "A") -> list[str]:
    found = page.locator(f'.walk[aria-label="Walk {walk}"] .chip-token:not(.next-place)').all_inner_texts()
    return [text.strip() for text in found]


def wait_for_chips(page: Any, texts: list[str], walk: str = "A") -> None:
    """Wait until a walk has these tokens and all are scored."""
    page.wait_for_function(
        """([walk, texts]) => {
          const box = document.querySelector(`.walk[aria-label="Walk ${walk}"]`);
          const chips = [...(box?.querySelectorAll(".chip-token:not(.next-place)") ?? [])];
          return chips.length === texts.length && chips.every((chip, i) => chip.innerText.trim() === texts[i])
            && chips.every((chip) => chip.dataset.shade !== undefined)
            && !/–/.test(box.querySelector(".total").innerText);
        }""",
        arg=[walk, texts],
    )


def wait_for_step(page: Any, number: int) -> None:
    page.wait_for_function(
        "(n) => document.getElementById('h-next').innerText === `Next token: ${n}`"
        " && !document.getElementById('next').classList.contains('stale')",
        arg=number,
    )


def row(page: Any, text: str) -> Any:
    token = page.locator(".pick").filter(has_text=re.compile(f"^{re.escape(text)}$"))
    return page.locator("#rows tr").filter(has=token)


def bar(page: Any, text: str, kind: str) -> float:
    """Return the width of a bar in the table, as a share of the longest possible."""
    return (
        row(page, text)
        .locator(f".level.{kind} .track")
        .evaluate(
            "(track) => track.firstChild.getBoundingClientRect().width / track.getBoundingClientRect().width"
        )
    )


def overflow(page: Any) -> float:
    return page.evaluate("() => document.documentElement.scrollWidth - innerWidth")


def test_a_click_goes_on_and_an_earlier_token_goes_back(open_walk: OpenWalk, server: WalkServer) -> None:
    page = open_walk(server)
    assert page.locator("#prompt-tokens .chip-token").all_inner_texts()[1:] == [
        "It", "␣was", "␣a", "␣dark", "␣and", "␣stormy",
    ]  # fmt: skip
    row(page, "␣night").click()
    wait_for_chips(page, ["␣night"])
    wait_for_step(page, 2)
    row(page, ".").click()
    wait_for_chips(page, ["␣night", "."])
    page.locator(".walk .chip-token").first.click()
    wait_for_step(page, 1)
    assert row(page, "␣night").get_attribute("class") == "is"
    assert chips(page) == ["␣night", "."], "going back removes nothing"
    row(page, "␣evening").click()
    wait_for_chips(page, ["␣evening"])
    page.click("#undo")
    wait_for_chips(page, ["␣night", "."])


def test_a_fork_is_compared_with_what_it_left(open_walk: OpenWalk, server: WalkServer) -> None:
    page = open_walk(server)
    row(page, "␣night").click()
    wait_for_step(page, 2)
    row(page, ".").click()
    wait_for_chips(page, ["␣night", "."])
    page.locator(".walk .chip-token").nth(1).click()
    wait_for_step(page, 2)
    page.click("#fork")
    page.wait_for_selector('.walk.is-current[aria-label="Walk B"]')
    row(page, "␣in").click()
    wait_for_chips(page, ["␣night", "␣in"], "B")
    assert chips(page) == ["␣night", "."]
    assert page.locator(".diverges").all_inner_texts() == [".", "␣in"]
    said = page.inner_text("#comparison")
    assert said.startswith("B and A diverge at token 2: “ in” (")
    totals = [float(text.replace("−", "-")) for text in re.findall(r"(−?\d+\.\d{3})", said)]
    ours = [page.inner_text(f'.walk[aria-label="Walk {name}"] .total').replace("−", "-") for name in "BA"]
    assert [f"log p {total:.3f}" for total in totals[:2]] == ours
    assert totals[2] == pytest.approx(totals[0] - totals[1], abs=0.0011)
    page.click('[aria-label="Remove walk A"]')
    page.wait_for_selector("#comparison", state="hidden")
    assert chips(page, "A") == ["␣night", "␣in"]


def test_a_phone_heads_the_two_distributions(open_walk: OpenWalk, server: WalkServer) -> None:
    page = open_walk(server)
    page.set_viewport_size({"width": 390, "height": 844})
    for cls, cell in (("key-raw", 5), ("key-warped", 6)):
        assert page.is_visible(f".next th.{cls}")
        head, below = (
            page.locator(one).first.bounding_box()
            for one in (f".next th.{cls}", f"#rows tr td:nth-child({cell})")
        )
        assert head["x"] == pytest.approx(below["x"], abs=2)
        assert head["y"] < below["y"]


def test_a_knob_moves_the_bars_and_the_overrides(open_walk: OpenWalk, server: WalkServer) -> None:
    page = open_walk(server)
    before = bar(page, "␣evening", "warped"), bar(page, "␣evening", "raw")
    assert before[0] == pytest.approx(before[1], abs=0.01)
    page.fill("#knob-temperature", "2")
    page.wait_for_function("() => document.getElementById('overrides').value.includes('temperature=2')")
    assert bar(page, "␣evening", "warped") > 1.3 * before[0]
    assert bar(page, "␣evening", "raw") == pytest.approx(before[1], abs=0.01)
    page.fill("#knob-temperature", "")
    page.fill("#knob-top_k", "1")
    page.wait_for_selector("#rows tr.removed:has-text('evening')")
    assert bar(page, "␣evening", "warped") == 0
    assert "removed" in row(page, "␣evening").inner_text()
    assert "1 of 2,048" in page.inner_text("#step-facts")
    assert page.input_value("#overrides") == "decoding=top_k decoding.top_k=1"
    page.locator("#knob-top_k ~ .off").click()
    page.wait_for_selector("#rows tr.removed", state="detached")
    # A slider, from its own keyboard.
    page.locator(".knob:has(#knob-min_p) input[type=range]").focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.getElementById('overrides').value.includes('min_p=0.2')")
    page.select_option("#choice", "typical")
    page.wait_for_function("() => document.getElementById('overrides').value === 'decoding=typical'")
    assert page.input_value("#knob-min_p") == ""


def test_a_wrong_value_is_said_and_corrected(open_walk: OpenWalk, server: WalkServer) -> None:
    page = open_walk(server)
    page.fill("#knob-top_p", "1.5")
    page.wait_for_selector(".knob .wrong:has-text('decoding.top_p=1.5: must be at most 1')")
    assert page.get_attribute("#knob-top_p", "aria-invalid") == "true"
    assert page.locator("#rows tr").count() == 20, "the last right distribution stays"
    page.fill("#knob-top_p", "")
    page.wait_for_selector(".knob .wrong", state="hidden")
    wait_for_step(page, 1)
    assert page.locator("#mistakes").is_hidden()


def test_by_keyboard_alone(open_walk: OpenWalk, server: WalkServer) -> None:
    page = open_walk(server)
    press = page.keyboard.press
    press("1")
    wait_for_chips(page, ["␣night"])
    wait_for_step(page, 2)
    press("ArrowDown")
    press("ArrowDown")
    press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.walk .chip-token').length === 3")
    wait_for_step(page, 3)
    press("Backspace")
    wait_for_chips(page, ["␣night"])
    press("ArrowLeft")
    wait_for_step(page, 1)
    press("f")
    page.wait_for_selector('.walk.is-current[aria-label="Walk B"]')
    press("g")
    page.wait_for_function(
        """() => document.querySelectorAll('[aria-label="Walk B"] [data-shade]').length === 8"""
    )
    page.wait_for_selector("#stop", state="hidden")
    press("w")
    page.wait_for_selector('.walk.is-current[aria-label="Walk A"]')
    press("u")
    press("?")
    assert "fork" in page.inner_text("#help")
    press("Escape")
    page.wait_for_selector("#help", state="hidden")


def test_greedy_and_sampled_tokens(open_walk: OpenWalk, server: WalkServer) -> None:
    page = open_walk(server)
    page.fill("#count", "6")

    def run(what: str, seed: str = "0") -> list[str]:
        page.fill("#seed", seed)
        page.locator(".walk .chip-token").first.click()
        wait_for_step(page, 1)
        page.click(what)
        page.wait_for_selector("#stop", state="hidden")
        page.wait_for_function("() => document.querySelectorAll('.walk [data-shade]').length === 6")
        return chips(page)

    greedy = run("#greedy")
    assert greedy[:2] == ["␣night", "."]
    sampled = [run("#sample", seed) for seed in ("1", "2", "3")]
    assert run("#sample", "1") == sampled[0]
    assert len({*map(tuple, sampled)}) > 1
    page.fill("#seed", "-1")
    page.click("#sample")
    page.wait_for_selector("#mistakes:has-text('generation.seed=-1')")


def test_the_end_of_the_context(open_walk: OpenWalk, serve: Callable[..., WalkServer]) -> None:
    page = open_walk(serve("It was a dark and stormy night. " * 62))
    room = int(page.inner_text("#facts").partition("room after it ")[2].split()[0])
    assert 1 < room < 16
    page.fill("#count", "20")
    page.click("#greedy")
    page.wait_for_selector("#mistakes:has-text('the context is full')")
    full = chips(page)
    assert len(full) == room
    page.locator("#rows tr").first.click()
    page.wait_for_selector("#mistakes:has-text('the prompt does not fit')")
    assert chips(page) == full


def test_an_address_keeps_walks_and_values(open_walk: OpenWalk, server: WalkServer) -> None:
    page = open_walk(server)
    row(page, "␣night").click()
    wait_for_step(page, 2)
    page.fill("#knob-top_p", "0.7")
    page.wait_for_function("() => location.hash.includes('top_p=0.7')")
    again = open_walk(server, page.evaluate("() => location.hash"))
    wait_for_chips(again, ["␣night"])
    wait_for_step(again, 2)
    assert again.input_value("#knob-top_p") == "0.7"
    for fragment in ("#walk=99999&at=0.0", "#walk=a.b", "#walk=1.2&at=7.9&vs=5&top_p=%3Cimg%3E", "#%%%"):
        open_walk(server, "").goto(server.address + fragment)


def test_hostile_texts(open_walk: OpenWalk, serve: Callable[..., WalkServer]) -> None:
    page = open_walk(serve(HOSTILE))
    page.fill("#text", HOSTILE.replace("\n", ""))
    page.click("#append button")
    page.wait_for_function("() => document.querySelectorAll('.walk [data-shade]').length > 20")
    assert page.locator("main img, main script, main iframe").count() == 0
    shown = page.inner_text("#prompt-tokens") + page.inner_text(".walk")
    assert not re.search("[\u202e\x1b]", shown)
    assert "⟨RLO⟩" in shown
    assert "↵" in shown
    page.fill("#knob-top_p", "<img src=x onerror=alert(1)>")
    page.wait_for_selector(".knob .wrong:has-text('<img src=x')")


@pytest.mark.thinned(3)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_fits(open_walk: OpenWalk, server: WalkServer, size: tuple[int, int], dark: bool) -> None:
    page = open_walk(server, size=size, dark=dark)
    page.keyboard.press("g")
    page.wait_for_function("() => document.querySelectorAll('.walk [data-shade]').length === 8")
    page.wait_for_selector("#stop", state="hidden")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("f")
    page.fill("#knob-top_p", "7")
    page.wait_for_selector(".knob .wrong >> visible=true")
    assert overflow(page) <= 0
    # A tap is at least 24 pixels high (WCAG 2.2, 2.5.8).
    if size == PHONE:
        heights = page.locator("#rows tr").evaluate_all("(rows) => rows.map((row) => row.offsetHeight)")
        assert min(heights) >= 24
    paper, ink = page.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; }"
    )
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (paper, ink)]
    assert (light[0] < light[1]) is dark
    page.click("#theme")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != paper
