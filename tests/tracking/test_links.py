from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from fake_points import make_sweep

from harness.tracking.links import closing_lines, sweep_links, table_view


def test_links_say_what_the_ui_reads(outputs: Path) -> None:
    sweep = make_sweep(outputs, tokens=3)
    texts, charts, runs = sweep_links(sweep, "7")
    for link in (texts, charts, runs):
        assert link.url.startswith("http://127.0.0.1:5000/#/experiments/7/runs?")
        assert " " not in link.url
        assert "'" not in link.url
    asked = parse_qs(urlsplit(texts.url.replace("#/", "")).query)
    assert asked["searchFilter"] == [
        f"tags.sweep_id = '{sweep.sweep_id}' and tags.kind = 'generation' and attributes.status = 'FINISHED'"
    ]
    assert asked["compareRunsMode"] == ["ARTIFACT"]
    assert asked["orderByKey"] == ["metrics.`latency/itl_p50_ms`"]
    assert "compareRunsMode=CHART" in charts.url
    assert f"viewStateShareKey=harness-{sweep.sweep_id}" in runs.url


def test_a_server_is_linked_at_its_own_address(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=3)
    links = sweep_links(sweep, "1", uri="https://mlflow.example.test/")
    assert links[0].url.startswith("https://mlflow.example.test/#/")
    assert not any(
        "harness ui" in line for line in closing_lines(sweep, links, "https://mlflow.example.test/")
    )


def test_closing_lines_name_the_command_and_the_limit(outputs: Path) -> None:
    sweep = make_sweep(outputs, decodings=tuple("abcdef"), tokens=3)
    lines = closing_lines(sweep, sweep_links(sweep, "1"), "sqlite:///x.db")
    assert lines[0].startswith("harness ui")
    assert "10 runs side by side; compare.html shows all 12" in lines[-1]
    assert closing_lines(sweep, (), "") == []


def test_the_table_shows_the_choices_that_vary(outputs: Path) -> None:
    columns = table_view(make_sweep(outputs, tokens=3))["selectedColumns"]
    assert "tags.`model`" in columns
    assert "tags.`quantization`" not in columns
    assert "metrics.`latency/ttft_p50_ms`" in columns
