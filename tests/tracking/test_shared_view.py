"""The view of a sweep that its links open: columns and charts that the UI can draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_points import make_sweep
from swept_sweep import swept_sweep

from harness.analysis.metric_catalog import metric_of
from harness.store.sweeps import Sweep
from harness.tracking.shared_view import MOST_AXES, numeric_keys, table_view, varied_keys

CHRF, ITL, TTFT = (
    metric_of(f"{key}") for key in ("reference/chrf", "latency/itl_p50_ms", "latency/ttft_p50_ms")
)


def charts(sweep: Sweep, *charted: Any) -> dict[str, dict[str, Any]]:
    """Return the charts by type and what they are over."""
    view = table_view(sweep, [CHRF, ITL], charted)
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} <= sections
    ids = [chart["uuid"] for chart in view["compareRunCharts"]]
    assert len(set(ids)) == len(ids)
    return {chart["uuid"].removeprefix("harness-"): chart for chart in view["compareRunCharts"]}


@pytest.fixture
def grid(outputs: Path) -> Sweep:
    return swept_sweep(
        outputs, keys={"decoding.temperature": (0.5, 0.7), "decoding.top_p": (0.8, 0.9)}, unswept=("greedy",),
        decodings=("greedy", "top_p"),
    )  # fmt: skip


def test_varied_keys_come_before_metrics(grid: Sweep) -> None:
    assert varied_keys(grid) == ["decoding", "decoding.temperature", "decoding.top_p"]
    assert numeric_keys(grid) == ["decoding.temperature", "decoding.top_p"]
    view = table_view(grid, [CHRF, ITL])
    assert view["selectedColumns"] == [
        "params.`decoding`",
        "params.`decoding.temperature`",
        "params.`decoding.top_p`",
        "metrics.`quality/chrf`",
        "metrics.`latency/itl_p50_ms`",
    ]
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`quality/chrf`", False)


def test_parallel_coordinates_end_with_the_goal_which_colours_the_lines(grid: Sweep) -> None:
    chart = charts(grid, CHRF, ITL, TTFT)["choices-choices"]
    assert chart["type"] == "PARALLEL"
    assert chart["selectedParams"] == ["decoding", "decoding.temperature", "decoding.top_p"]
    assert chart["selectedMetrics"] == ["latency/itl_p50_ms", "quality/chrf"]


def test_there_are_no_more_axes_than_can_be_read(outputs: Path) -> None:
    keys = {f"decoding.k{i}": (1.0, 2.0) for i in range(6)}
    sweep = swept_sweep(outputs, decodings=("top_p",), keys=keys)
    chart = charts(sweep, CHRF, ITL, TTFT)["choices-choices"]
    assert len(chart["selectedParams"]) + len(chart["selectedMetrics"]) <= MOST_AXES
    assert chart["selectedMetrics"][-1] == "quality/chrf"


def test_scatters_of_the_goal_over_speed_and_over_each_number(grid: Sweep) -> None:
    found = {name: chart for name, chart in charts(grid, CHRF, ITL).items() if chart["type"] == "SCATTER"}
    axes = {name.removeprefix("trade-offs-"): (c["xaxis"], c["yaxis"]) for name, c in found.items()}
    goal = {"key": "quality/chrf", "type": "METRIC"}
    assert axes == {
        "trade-off": ({"key": "latency/itl_p50_ms", "type": "METRIC"}, goal),
        "over-decoding.temperature": ({"key": "decoding.temperature", "type": "PARAM"}, goal),
        "over-decoding.top_p": ({"key": "decoding.top_p", "type": "PARAM"}, goal),
    }


def test_where_some_runs_have_no_time_per_token_the_speed_is_throughput(grid: Sweep) -> None:
    """As beams; MLflow would leave their runs out of the chart."""
    found = charts(grid, CHRF, metric_of("throughput/tokens_per_s"))
    assert found["trade-offs-trade-off"]["xaxis"]["key"] == "throughput/tokens_per_s"


def test_without_metrics_there_are_no_charts(outputs: Path) -> None:
    assert charts(make_sweep(outputs, tokens=3)) == {}
