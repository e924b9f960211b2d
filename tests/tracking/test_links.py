"""Links open the right view of the MLflow UI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fake_points import make_sweep

from harness.analysis.point_results import point_results
from harness.report.console import SafeConsole
from harness.report.key_metrics import key_metrics
from harness.store.sweeps import Sweep
from harness.tracking.links import Link, side_by_side, sweep_links
from harness.tracking.print_links import print_links
from harness.tracking.shared_view import table_view


def printed(capsys: pytest.CaptureFixture[str], sweep: Sweep, links: Sequence[Link], uri: str) -> str:
    """Return what is printed where a terminal does not open links."""
    print_links(SafeConsole(), sweep, links, uri)
    return capsys.readouterr().out


def test_links_have_the_parameters_that_the_ui_reads(outputs: Path) -> None:
    sweep = make_sweep(outputs, tokens=3)
    outputs_link, charts, runs = sweep_links(sweep, "7")
    for link in (outputs_link, charts, runs):
        assert link.url.startswith("http://127.0.0.1:5000/#/experiments/7/runs?")
        assert " " not in link.url
        assert "'" not in link.url
    query = parse_qs(urlsplit(outputs_link.url.replace("#/", "")).query)
    assert query["searchFilter"] == [
        f"tags.sweep_id = '{sweep.sweep_id}' and tags.kind = 'generation' and attributes.status = 'FINISHED'"
    ]
    assert query["compareRunsMode"] == ["ARTIFACT"]
    assert query["orderByKey"] == ["metrics.`latency/itl_p50_ms`"]
    assert "compareRunsMode=CHART" in charts.url
    assert f"viewStateShareKey=harness-{sweep.sweep_id}" in runs.url


def test_a_server_is_linked_at_its_own_address(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=3)
    links = sweep_links(sweep, "1", uri="https://mlflow.example.test/")
    assert links[0].url.startswith("https://mlflow.example.test/#/")
    assert "harness ui" not in printed(capsys, sweep, links, "https://mlflow.example.test/")


def test_printed_links_name_the_command_and_the_limit(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(outputs, decodings=tuple("abcdef"), tokens=3)
    links = sweep_links(sweep, "1")
    lines = printed(capsys, sweep, links, "sqlite:///x.db").splitlines()
    assert lines[0].startswith("harness ui")
    # Of the runs and, where it is logged, the page; the others are searches that nobody can read.
    assert [line.split()[0] for line in lines[1:2]] == ["runs"]
    assert max(map(len, lines)) < 160
    rest = " ".join(lines[2:])
    assert "MLflow puts 10 runs side by side" in rest
    assert "compare.html shows all 12" in rest
    assert printed(capsys, sweep, (), "") == ""


def test_the_page_and_the_traces_are_linked_where_they_exist(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=3)
    links = {link.name: link.url for link in sweep_links(sweep, "7", parent="abc")}
    assert list(links) == ["outputs", "charts", "page", "runs"]
    assert "/#/experiments/7/runs/abc/artifacts/compare.html?" in links["page"]
    traced = replace(sweep, tracking={**sweep.tracking, "traces": True})
    links = {link.name: link.url for link in sweep_links(traced, "7", parent="abc")}
    query = parse_qs(urlsplit(links["traces"].replace("#/", "")).query)
    assert query["tag"] == [f"sweep_id={sweep.sweep_id}"]
    assert query["startTimeLabel"] == ["ALL"]


def test_ten_of_many_are_the_baseline_and_its_nearest(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m", "n"), decodings=tuple("abcdefgh"), tokens=3)
    sweep = sweep.with_point(1, status="failed")
    shown = [point.label for point in side_by_side(sweep)]
    assert shown == [*(f"m/fp32/{d}" for d in "acdefgh"), "n/fp32/a", "n/fp32/b", "n/fp32/c"]
    sweep = replace(sweep, compare={"baseline": "n/fp32/h"})
    shown = [point.label for point in side_by_side(sweep)]
    assert shown == ["m/fp32/a", "m/fp32/h", *(f"n/fp32/{d}" for d in "abcdefgh")]
    run_ids = {label: f"id of {label}" for label in shown}
    outputs_link, charts, *_ = sweep_links(sweep, "1", run_ids=run_ids)
    query = parse_qs(urlsplit(outputs_link.url.replace("#/", "")).query)
    ids = ", ".join(f"'{run}'" for run in run_ids.values())
    assert query["searchFilter"] == [f"attributes.run_id IN ({ids})"]
    assert "viewStateShareKey=harness" in charts.url, "it charts all, not only the first ten"
    assert "compareRunsMode=CHART" in charts.url
    assert table_view(sweep)["runsHiddenMode"] == "SHOWALL"


def test_the_table_shows_what_varies(outputs: Path) -> None:
    columns = table_view(make_sweep(outputs, tokens=3))["selectedColumns"]
    assert "params.`model`" in columns
    assert "params.`quantization`" not in columns
    assert "metrics.`latency/ttft_p50_ms`" in columns


@pytest.mark.parametrize("goal", ["text/distinct_2", "latency/ttft_p50_ms", "throughput/tokens_per_s"])
def test_outputs_and_runs_are_ordered_by_the_goal(outputs: Path, goal: str) -> None:
    """A goal among the headlines gave way to the speed."""
    sweep = make_sweep(outputs, tokens=3)
    metrics = key_metrics(point_results(sweep), goal)
    outputs_link = sweep_links(sweep, "7", metrics=metrics, goal=goal)[0]
    query = parse_qs(urlsplit(outputs_link.url.replace("#/", "")).query)
    assert query["orderByKey"] == [f"metrics.`{goal}`"]
    assert query["orderByAsc"] == ["true" if goal == "latency/ttft_p50_ms" else "false"]
    view = table_view(sweep, metrics, goal=goal)
    assert view["orderByKey"] == f"metrics.`{goal}`"
    assert view["orderByAsc"] is (goal == "latency/ttft_p50_ms")
