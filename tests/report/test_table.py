from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import make_sweep
from rich.console import Console

from harness.report.points import reported
from harness.report.table import short_names, sweep_table
from harness.results.sweeps import Sweep


def drawn(sweep: Sweep, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(sweep_table(reported(sweep), width))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_a_row_a_point_within_the_width(outputs: Path, width: int) -> None:
    sweep = make_sweep(outputs, failed="temperature", tokens=5)
    lines = drawn(sweep, width)
    assert all(len(line) <= width for line in lines)
    for decoding in ("greedy", "top_p"):
        for model in ("fable_tiny", "fable_small"):
            row = next(line for line in lines if f"{model}/{decoding}" in line)
            point = next(p for p in reported(sweep) if (p.point.model, p.point.decoding) == (model, decoding))
            assert row.strip().startswith("✓")
            assert f"{point.metrics['latency/ttft_p50_ms']:.1f}" in row
            assert f"−{-point.metrics['probability/mean_logprob']:.3f}" in row
            assert f"{point.finishes['eos']} eos" in row or not point.finishes["eos"]
    assert sum(line.strip().startswith("✗") for line in lines) == 4  # two rows, and two errors below


def test_what_all_share_is_said_once(outputs: Path) -> None:
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
