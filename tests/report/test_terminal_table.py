from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import make_sweep
from rich.console import Console

from harness.analysis.comparison import Cell, Comparison, Difference
from harness.analysis.metric_catalog import HEADLINES as ALL_HEADLINES
from harness.analysis.point_results import PointResult, point_results
from harness.report.point_names import short_names
from harness.report.terminal_table import sweep_table
from harness.store.sweeps import Sweep, SweepPoint

HEADLINES = tuple(m for m in ALL_HEADLINES if not m.key.startswith(("quality/", "watermark/")))
"""Those of sweeps without a structure."""


def table(points: Sequence[PointResult], width: int, comparison: Comparison | None = None) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(sweep_table(points, width, comparison))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def drawn(sweep: Sweep, width: int) -> list[str]:
    return table(point_results(sweep), width)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_row_a_point_within_the_width(outputs: Path, width: int) -> None:
    sweep = make_sweep(outputs, failed="temperature", tokens=5)
    lines = drawn(sweep, width)
    assert all(len(line) <= width for line in lines)
    for decoding in ("greedy", "top_p"):
        for model in ("fable_tiny", "fable_small"):
            row = next(line for line in lines if f"{model}/{decoding}" in line)
            point = next(
                p for p in point_results(sweep) if (p.point.model, p.point.decoding) == (model, decoding)
            )
            assert row.strip().startswith("✓")
            assert f"{point.metrics['latency/ttft_p50_ms']:.1f}" in row
            assert f"−{-point.metrics['probability/mean_logprob']:.3f}" in row
            assert f"{point.finishes['eos']} eos" in row or not point.finishes["eos"]
    assert sum(line.strip().startswith("✗") for line in lines) == 4  # two rows, and two errors below


def made_up(decoding: str, model: str = "fable_small", **varied: object) -> PointResult:
    keys = {key.replace("__", "."): value for key, value in varied.items()}
    words = [f"{key.rpartition('.')[2]}={value}" for key, value in keys.items()]
    label = " ".join([f"{model}/bnb_nf4/{decoding}", *words])
    point = SweepPoint(label, "p", model, "bnb_nf4", "storytelling", decoding, keys, "done")
    metrics = {metric.key: 123.0 for metric in HEADLINES}
    return PointResult(point, None, metrics, finishes={"eos": 120, "length": 36})


LONG = [
    made_up("temperature", model, decoding__temperature=t, generation__max_new_tokens=n)
    for model in ("fable_small", "Mistral-7B-Instruct-v0.3")
    for t, n in ((0.5, 64), (0.9, 64), (0.9, 128))
]
WIDE = [made_up("greedy", "a/" + "b" * 70), made_up("top_p", "a/" + "b" * 70)]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize(
    "points", [LONG, LONG[:3], LONG[:1], WIDE, WIDE[:1], [made_up("beam"), made_up("greedy")]]
)
def test_names_are_wrapped_at_slashes_and_spaces_only(points: list[PointResult], width: int) -> None:
    lines = table(points, width)
    assert all(len(line) <= width for line in lines)
    names = short_names([p.point for p in points])
    shown = re.split(r"\n[✓✗] ", "\n".join(line[:70] for line in lines).partition("\n\n")[0])[1:]
    for name, rows in zip(names, shown, strict=True):
        lines_of = [row.strip().split("  ")[0] for row in rows.splitlines()]
        joined = "".join(line if line.endswith("/") else f"{line} " for line in lines_of).strip()
        assert joined == name or max(map(len, re.split("[/ ]", name))) > 40


def test_a_column_gives_way_before_a_name_is_wrapped() -> None:
    points = LONG[:3]
    widths = range(113, 68, -1)
    heads = [" ".join(" ".join(table(points, width)[:2]).split()) for width in widths]
    assert list(dict.fromkeys(heads)) == [
        "TTFT ITL tok/s logprob dist-2 rep-4 tokens run ms ms finish",
        "TTFT ITL tok/s logprob dist-2 rep-4 run ms ms finish",
        "TTFT ITL tok/s logprob dist-2 rep-4 run ms ms eos/len",
        "TTFT ITL tok/s logprob rep-4 run ms ms eos/len",
        "TTFT ITL logprob rep-4 run ms ms eos/len",
        "TTFT ITL logprob run ms ms eos/len",
    ]
    assert all(len(table(points, width)) < 10 for width in widths)  # no name was wrapped
    lines = table(points, 80)
    assert lines[3].startswith("✓ temperature=0.5 max_new_tokens=64   ")
    assert lines[3].endswith("  120/36")
    assert lines[7] == "all: model fable_small, quantization bnb_nf4, prompts storytelling, decoding"


def test_columns_stay_where_leaving_them_out_would_not_help() -> None:
    assert "TTFT" not in table(LONG[:3], 66)[0]
    assert "TTFT" in table(LONG[:3], 60)[0]
    assert len(table([made_up("greedy")], 80)) == 4


def test_values_are_written_as_in_the_label() -> None:
    points = [
        made_up("top_k", decoding__top_k=5, record__top_k=n, generation__stop_strings=["a b"]) for n in (1, 2)
    ]
    assert short_names([p.point for p in points]) == [
        f'top_k=5 record.top_k={n} stop_strings=["a b"]' for n in (1, 2)
    ]


def test_what_all_share_is_shown_once(outputs: Path) -> None:
    lines = drawn(make_sweep(outputs, tokens=5), 120)
    assert "all: quantization fp32, prompts made_up" in lines
    assert not any("fp32" in line for line in lines if line.strip().startswith("✓"))


def test_an_error_is_text_and_not_markup_nor_an_escape(outputs: Path) -> None:
    text = "\n".join(drawn(make_sweep(outputs, failed="top_p", tokens=5), 160))
    assert "[red]no[/red] such ␛[31mthing" in text
    assert "\x1b" not in text


def test_names_hold_what_varies_and_fall_back_to_labels(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=5)
    assert short_names(sweep.points) == ["greedy", "top_p", "temperature"]
    hot = [replace(sweep.points[2], varied={"decoding.temperature": t}) for t in (0.5, 1.5)]
    assert short_names([sweep.points[0], *hot]) == [
        "greedy",
        "temperature temperature=0.5",
        "temperature temperature=1.5",
    ]
    assert short_names([sweep.points[0], replace(sweep.points[0], label="twin")]) == ["m/fp32/greedy", "twin"]
    assert short_names(sweep.points[:1]) == ["m/fp32/greedy"]


def compared(points: Sequence[PointResult], *, approximate: bool = False) -> Comparison:
    """The first two columns worse and better, the others higher, lower, in the noise, not significant."""
    differences = [
        ("higher", "worse", False),
        ("lower", "better", False),
        ("higher", None, False),
        ("lower", None, False),
        ("lower", "worse", True),
        ("lower", "better", False),
        ("no significant difference", None, True),
    ]
    cells = {points[0].point.label: {column.key: Cell(123.0) for column in HEADLINES}}
    for p in points[1:]:
        cells[p.point.label] = {
            column.key: Cell(123.0, None, None, Difference(1.0, 0.5, 1.5, 0.01, *difference, prompts=30))  # type: ignore[arg-type]
            for column, difference in zip(HEADLINES, differences, strict=True)
        }
    return Comparison(points[0].point.label, (), cells, approximate=approximate)


def test_numbers_are_marked_by_their_difference_from_the_baseline_and_the_marks_explained() -> None:
    points = [made_up("greedy"), made_up("top_p")]
    lines = table(points, 100, compared(points))
    expected = "✓ greedy 123.0 123.00 123 123.000 123.000 123.000 123 120 eos 36 length"
    assert re.sub(" +", " ", lines[3]) == expected
    expected = "✓ top_p 123.0▼ 123.00▲ 123↑ 123.000↓ 123.000≈ 123.000▲ 123· 120 eos 36 length"
    assert re.sub(" +", " ", lines[4]) == expected
    assert lines[3].index("123.000") == lines[4].index("123.000")
    below = " ".join(lines[7:])
    assert "vs. fable_small/bnb_nf4/greedy: ▲ better, ▼ worse, ↑ higher, ↓ lower" in below
    assert "· no significant difference" in below
    assert "approximate" not in below
    assert "approximate" in " ".join(table(points, 80, compared(points, approximate=True)))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_marks_keep_the_table_within_the_width(width: int) -> None:
    assert all(len(line) <= width for line in table(LONG, width, compared(LONG)))
    lines = table(LONG[:1], width, compared(LONG[:1]))
    assert not any("vs." in line for line in lines)


def test_a_baseline_is_shown_as_text(outputs: Path) -> None:
    points = [made_up("greedy"), made_up("top_p")]
    comparison = replace(compared(points), baseline="[red]no\x1b[31m")
    assert "[red]no␛[31m" in " ".join(table(points, 160, comparison))
