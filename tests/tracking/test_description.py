"""The description of a sweep's run, read as MLflow's UI reads it: by a Markdown parser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_points import HOSTILE, make_sweep
from made_comparison import made_up_comparison
from markdown_it import MarkdownIt

from harness.analysis.answer import Answer
from harness.analysis.comparison import Comparison
from harness.analysis.point_results import PointResult, point_results
from harness.analysis.sentence import Link, Sentence
from harness.analysis.swept import BestSet
from harness.terminal import visible
from harness.tracking.description import LONGEST, description, escaped

READER = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])

EXPECTED = {
    *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    *("paragraph_open", "paragraph_close", "strong_open", "strong_close", "inline", "text", "softbreak"),
    *(
        f"{part}_{side}"
        for part in ("table", "thead", "tbody", "tr", "th", "td")
        for side in ("open", "close")
    ),
}
"""All markup that a description may have: no HTML, links, images or code."""


def tokens(markdown: str) -> list[Any]:
    """Return the parser's tokens with those inside of lines; entities are text."""
    found = []
    for token in READER.parse(markdown):
        found += [token, *(token.children or ())]
    return found


def kinds(markdown: str) -> set[str]:
    return {"text" if token.type == "text_special" else token.type for token in tokens(markdown)}


def cells(markdown: str) -> list[list[str]]:
    """Return the texts of the table, a list per line."""
    lines: list[list[str]] = []
    for token in READER.parse(markdown):
        if token.type == "tr_open":
            lines.append([])
        elif token.type == "inline" and lines and token.level >= 4:
            lines[-1].append(plain(token))
    return lines


def plain(inline: Any) -> str:
    return "".join(child.content for child in inline.children).strip(" \N{NO-BREAK SPACE}")


def described(outputs: Path, **options: Any) -> tuple[list[PointResult], Comparison]:
    points = point_results(make_sweep(outputs, tokens=4, **options))
    return points, made_up_comparison(points)


def test_the_answer_is_a_list_and_the_results_a_table(outputs: Path) -> None:
    points, comparison = described(outputs)
    text = description(points, comparison, "harness -m decoding=greedy,top_p")
    assert kinds(text) <= EXPECTED
    assert comparison.answer is not None
    first = comparison.answer.sentences[0]
    assert text.startswith(f"- **{escaped(first.title)}:** ")
    head, *rows = cells(text)
    assert head[0] == "run"
    assert [row[0] for row in rows] == [
        f"{model}/{name}"
        for model in ("fable_tiny", "fable_small")
        for name in ("greedy", "top_p", "temperature")
    ]
    at = head.index("ITL (ms)")
    values = [p.metrics["latency/itl_p50_ms"] for p in points]
    assert [float(row[at]) for row in rows] == [round(value, 2) for value in values]
    assert text.rstrip().endswith("Command: harness &#45;m decoding&#61;greedy,top&#95;p")


def test_bold_is_what_the_page_has_bold(outputs: Path) -> None:
    points, comparison = described(outputs)
    labels = [p.point.label for p in points]
    best = BestSet(labels[2], ties=(labels[0],), worse=(labels[1],), ahead={}, values={}, prompts=3)
    comparison = replace(comparison, best={"text/distinct_2": best})
    lines = [line.split("|") for line in description(points, comparison).splitlines() if line.startswith("|")]
    at = [cell.strip(" \N{NO-BREAK SPACE}") for cell in lines[0]].index("dist&#45;2")
    bold = [
        (row, column) for row, cells in enumerate(lines[2:]) for column, c in enumerate(cells) if "**" in c
    ]
    assert bold == [(2, at)]


def test_what_answers_comes_before_the_table_and_figures_after_it(outputs: Path) -> None:
    points, comparison = described(outputs)
    said = [
        Sentence("Best", ("it is ", Link("point", points[0].point.label)), "slope 2"),
        Sentence("More prompts", ("about 30",), "power 80%"),
        Sentence("top_p", ("falls",), "curvature 3"),
        Sentence("Cost", ("5 ms",)),
        Sentence("bnb_nf4", ("vs. fp32",), "10 prompts"),
        Sentence("Loops", ("greedy",)),
    ]
    text = description(points, replace(comparison, answer=Answer(None, None, (), tuple(said))))
    above, _, below = text.partition("| run")
    titles = [plain(t).partition(":")[0] for t in READER.parse(above) if t.type == "inline"]
    assert titles == ["Best", "top_p", "bnb_nf4", "Loops"]
    assert "slope" not in above
    shown = [plain(t) for t in READER.parse(below.partition("\n\n")[2]) if t.type == "inline"]
    assert [line for line in shown if line.startswith(("More", "Cost"))] == [
        "More prompts: about 30 (power 80%)",
        "Cost: 5 ms",
    ]
    assert [line for line in shown if "figures" in line] == [
        "Best, figures: slope 2",
        "top_p, figures: curvature 3",
        "bnb_nf4, figures: 10 prompts",
    ]


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in ("", "long")])
def test_hostile_names_are_text(outputs: Path, name: str) -> None:
    points, comparison = described(outputs)
    hostile = HOSTILE[name] + " | *a* _b_ `c` [d](http://e) www.f.test https://g.test <b>\n- h\n\n# i"
    moved = [replace(p, point=replace(p.point, decoding=hostile)) for p in points]
    sentence = Sentence(hostile, ("x ", Link("point", "not one"), hostile), hostile)
    comparison = replace(comparison, answer=Answer(None, None, (), (sentence,)))
    text = description(moved, comparison, hostile)
    assert kinds(text) <= EXPECTED
    shown = " ".join(visible(hostile, "\n").split())
    contents = [plain(token) for token in READER.parse(text) if token.type == "inline"]
    assert f"Command: {shown}" in contents
    assert any(content.startswith(f"{shown}: x not one{shown}") for content in contents)


def test_what_is_too_long_loses_rows_and_says_so(outputs: Path) -> None:
    names = tuple(f"strategy_with_a_long_name_{i:03}" for i in range(150))
    points, comparison = described(outputs, models=("m",), decodings=names, texts={"p": "It was"})
    text = description(points, comparison)
    assert len(text) <= LONGEST
    rows = cells(text)[1:]
    left = len(points) - len(rows)
    assert left > 0
    assert f"\n\n{left} more; all runs are in compare.html" in text


def test_without_an_answer_there_is_the_table(outputs: Path) -> None:
    points, comparison = described(outputs)
    text = description(points, replace(comparison, answer=None))
    assert text.startswith("| run")
    assert len(cells(text)) == 7
