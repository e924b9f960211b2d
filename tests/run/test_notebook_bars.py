"""Progress in a notebook's cell: one output, replaced as work goes on and emptied at the end."""

from __future__ import annotations

import re

import pytest

from harness.report.console import SafeConsole
from harness.run import notebook_bars
from harness.run.display import Display


class Output:
    def __init__(self):
        self.shown = []

    def update(self, html):
        self.shown.append(html.data)


@pytest.fixture
def output(monkeypatch):
    display = pytest.importorskip("IPython.display")
    found = Output()
    monkeypatch.setattr(display, "display", lambda html, display_id: found)
    monkeypatch.setattr(notebook_bars, "REFRESH_S", 0)
    return found


def text_of(html):
    return re.sub(r"<[^>]+>", "", html)


def test_bars_are_drawn_as_html(output, capsys):
    console = SafeConsole()
    console.is_jupyter = True
    with Display(console, 2) as display:
        console.is_jupyter = False  # prints of lines go to the terminal here
        display.stage("decoding <script>alert(1)</script>", 8, "tokens")
        display.advance(3)
        display.point("fable/none/greedy", "done", "green")
        display.point("fable/none/top_p", "failed", "red")
    first, *_, last = output.shown
    assert "sweep" in text_of(first)
    assert any("3/8" in text_of(html) and "tokens" in text_of(html) for html in output.shown)
    assert any("1/2" in text_of(html) for html in output.shown)
    assert all("<script" not in html for html in output.shown)
    assert any("&lt;script&gt;" in html for html in output.shown)
    assert last == ""
    printed = capsys.readouterr().out
    assert "fable/none/top_p" in printed
    assert "greedy" not in printed


def test_quiet_shows_nothing(output, capsys):
    console = SafeConsole(quiet=True)
    console.is_jupyter = True
    with Display(console, 1) as display:
        display.stage("decoding", 8, "tokens")
        display.advance(3)
        display.point("fable/none/greedy", "done", "green")
        print("a metric that prints is heard")
    assert output.shown == []
    assert capsys.readouterr().out == "a metric that prints is heard\n"
