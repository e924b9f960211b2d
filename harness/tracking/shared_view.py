"""The state of MLflow's runs page that a sweep's links open: its points, what varies, and its charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.metric_catalog import HEADLINES, Metric
from harness.store.sweeps import Sweep
from harness.tracking.facts import metric_key, mlflow_key
from harness.tracking.links import order_of, points_filter

WIDE, PAIRS = "harness-choices", "harness-trade-offs"
"""Ids of the sections with the sweep's own charts, the first ones."""

SPEED = ("latency/", "throughput/")

MOST_AXES = 5
"""Axes of the parallel coordinates: the titles of more overlap beside MLflow's panels."""


def table_view(
    sweep: Sweep,
    metrics: Sequence[Metric] = HEADLINES,
    charted: Sequence[Metric] = (),
    goal: str = "",
) -> dict[str, Any]:
    """Return the view: the sweep's points with what varies and the key metrics, and charts of both.

    Args:
        sweep: whose points are shown.
        metrics: that are columns, most important first.
        charted: those among them that differ between points.
        goal: key of the metric that the sweep is about; empty without one.
    """
    varying = varied_keys(sweep)
    columns = [f"params.`{mlflow_key(key)}`" for key in varying]
    columns += [f"metrics.`{metric_key(metric.key)}`" for metric in metrics]
    order = order_of(metrics, goal)
    return {
        "searchFilter": points_filter(sweep),
        "orderByKey": order["orderByKey"],
        "orderByAsc": order["orderByAsc"] == "true",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOWALL",
        "compareRunSections": [_section(WIDE, "Choices and results", 1), _section(PAIRS, "Trade-offs", 2)],
        "compareRunCharts": _charts(varying, numeric_keys(sweep), charted),
        "isAccordionReordered": True,
    }


def varied_keys(sweep: Sweep) -> list[str]:
    """Return the keys that vary in the sweep; choices first."""
    values: dict[str, set[str]] = {}
    for point in sweep.points:
        for name in ("model", "quantization", "prompts", "decoding"):
            values.setdefault(name, set()).add(getattr(point, name))
        for key, value in point.varied.items():
            values.setdefault(key, set()).add(str(value))
    listed = {key for point in sweep.points for key in point.varied}
    return [key for key, found in values.items() if len(found) > 1 or (key in listed and "." in key)]


def numeric_keys(sweep: Sweep) -> list[str]:
    """Return the varied keys whose values are numbers, two or more of them."""
    values: dict[str, set[Any]] = {}
    for point in sweep.points:
        for key, value in point.varied.items():
            values.setdefault(key, set()).add(value)
    return [
        key
        for key, found in values.items()
        if len(found) > 1 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in found)
    ]


def _charts(
    varying: Sequence[str], numeric: Sequence[str], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Return the charts: parallel coordinates, the first metric over speed, and over each swept number."""
    if not metrics:
        return []
    goal = next((m for m in metrics if not m.key.startswith(SPEED)), metrics[0])
    # The UI colours the lines by the last one.
    others = [metric for metric in metrics if metric != goal]
    params = [mlflow_key(key) for key in varying][: MOST_AXES // 2 + 1]
    shown = [metric_key(metric.key) for metric in (*others[: MOST_AXES - len(params) - 1], goal)]
    charts: list[dict[str, Any]] = []
    if params:
        charts.append(
            _chart(
                "PARALLEL", WIDE, "choices", selectedParams=params, selectedMetrics=shown, showAllRuns=True
            )
        )
    # Beams have no time per token; then throughput is what all runs have.
    by_key = {metric.key: metric for metric in metrics}
    speed = by_key.get("latency/itl_p50_ms") or by_key.get("throughput/tokens_per_s")
    other = speed or next((m for m in metrics if m.better and m != goal), None)
    if other and other != goal:
        charts.append(_scatter("trade-off", _metric(other), _metric(goal)))
    charts += [
        _scatter(f"over-{key}", {"key": mlflow_key(key), "type": "PARAM"}, _metric(goal)) for key in numeric
    ]
    return charts


def _metric(metric: Metric) -> dict[str, str]:
    return {"key": metric_key(metric.key), "type": "METRIC"}


def _scatter(name: str, x: dict[str, str], y: dict[str, str]) -> dict[str, Any]:
    return _chart("SCATTER", PAIRS, name, xaxis=x, yaxis=y, displayName=f"{y['key']} over {x['key']}")


def _section(uuid: str, name: str, columns: int) -> dict[str, Any]:
    """Return a section as the UI stores one; those of single metrics, which it adds, come after it."""
    shown = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "name": name, "columns": columns, "cardHeight": 400, **shown}


def _chart(kind: str, section: str, name: str, **settings: Any) -> dict[str, Any]:
    """Return a chart as the UI stores one."""
    return {
        "type": kind,
        "uuid": f"{section}-{name}",
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        **settings,
    }
