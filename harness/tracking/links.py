"""Links into the MLflow UI that show a sweep at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from harness.results.catalog import HEADLINES
from harness.results.sweeps import Sweep
from harness.tracking.uri import is_server

LOCAL = "http://127.0.0.1:5000"
"""Where `harness ui` serves."""

MOST_SIDE_BY_SIDE = 10
"""Runs that the UI puts side by side at most."""

BY_SPEED = {"orderByKey": "metrics.`latency/itl_p50_ms`", "orderByAsc": "true"}
"""Any order but the default one shows points as rows of their own; below their parent they are collapsed."""


@dataclass(frozen=True)
class Link:
    """What is seen there, and where."""

    name: str
    url: str


def points_filter(sweep: Sweep) -> str:
    """The runs of the sweep's points, in the language of MLflow's search."""
    return f"tags.sweep_id = '{sweep.sweep_id}' and tags.kind = 'generation'"


def view_key(sweep: Sweep) -> str:
    """Name of the runs page's state that `table_view` describes."""
    return f"harness-{sweep.sweep_id}"


def table_view(sweep: Sweep) -> dict[str, Any]:
    """State of the runs page: the sweep's points with the metrics and choices that are looked for first."""
    choices = ("model", "quantization", "decoding")
    varying = [name for name in choices if len({getattr(p, name) for p in sweep.points}) > 1]
    columns = [f"metrics.`{metric.key}`" for metric in HEADLINES] + [f"tags.`{name}`" for name in varying]
    return {
        "searchFilter": points_filter(sweep),
        "orderByKey": BY_SPEED["orderByKey"],
        "orderByAsc": True,
        "selectedColumns": columns,
    }


def sweep_links(sweep: Sweep, experiment_id: str, uri: str = "", base: str = LOCAL) -> tuple[Link, ...]:
    """The sweep's texts side by side, its charts, and its runs as a table.

    Args:
        sweep: whose points are shown.
        experiment_id: in the store at `uri`.
        uri: tracking URI; a server's own address is taken instead of `base`.
        base: address of the UI.
    """
    base = (uri if is_server(uri) else base).rstrip("/")
    points = points_filter(sweep)
    whole = f"{points} and attributes.status = 'FINISHED'"

    def runs(**view: str) -> str:
        # The UI's other face, "GenAI", names and hides things differently.
        asked = {**view, "workflowType": "machine_learning"}
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in asked.items())
        return f"{base}/#/experiments/{quote(experiment_id, safe='')}/runs?{query}"

    return (
        Link("texts", runs(searchFilter=whole, **BY_SPEED, compareRunsMode="ARTIFACT")),
        Link("charts", runs(searchFilter=points, **BY_SPEED, compareRunsMode="CHART")),
        Link("runs", runs(viewStateShareKey=view_key(sweep))),
    )


def closing_lines(sweep: Sweep, links: tuple[Link, ...], uri: str) -> list[str]:
    """What to print after a run: how to open the UI, and where in it the sweep is."""
    if not links:
        return []
    lines = [] if is_server(uri) else ["harness ui   # then open one of these"]
    width = max(len(link.name) for link in links)
    lines += [f"{link.name:<{width}}  {link.url}" for link in links]
    shown = sum(point.status in ("done", "reused") for point in sweep.points)
    if shown > MOST_SIDE_BY_SIDE:
        lines.append(f"MLflow puts {MOST_SIDE_BY_SIDE} runs side by side; compare.html shows all {shown}.")
    return lines
