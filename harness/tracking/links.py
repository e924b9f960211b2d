"""Links into the MLflow UI that show a sweep at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from harness.analysis.metric_catalog import HEADLINES
from harness.store.sweeps import Sweep, SweepPoint
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


def side_by_side(sweep: Sweep) -> tuple[SweepPoint, ...]:
    """The points whose texts the UI is to put side by side: all, or the ten that say most of the sweep.

    Those are the baseline and the points that differ from it in the fewest choices, in the sweep's order.
    """
    whole = [point for point in sweep.points if point.status in ("done", "reused")]
    if len(whole) <= MOST_SIDE_BY_SIDE:
        return tuple(whole)
    baseline = next((p for p in whole if p.label == sweep.compare.get("baseline")), whole[0])
    nearest = sorted(whole, key=lambda point: _choices_apart(point, baseline))[:MOST_SIDE_BY_SIDE]
    return tuple(point for point in whole if point in nearest)


def _choices_apart(point: SweepPoint, other: SweepPoint) -> int:
    """How many of the keys that vary in the sweep differ between two points."""
    missing = object()
    keys = {*point.varied, *other.varied}
    return sum(point.varied.get(key, missing) != other.varied.get(key, missing) for key in keys)


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
        "runsHiddenMode": "SHOWALL",
    }


def sweep_links(
    sweep: Sweep,
    experiment_id: str,
    uri: str = "",
    base: str = LOCAL,
    runs_of: Mapping[str, str] | None = None,
    parent: str = "",
) -> tuple[Link, ...]:
    """The sweep's texts side by side, its charts, its page, its runs as a table, and any traces.

    Args:
        sweep: whose points are shown.
        experiment_id: in the store at `uri`.
        uri: tracking URI; a server's own address is taken instead of `base`.
        base: address of the UI.
        runs_of: ids of the points' runs by label, to choose which texts are put side by side.
        parent: id of the sweep's run, which holds compare.html.
    """
    base = (uri if is_server(uri) else base).rstrip("/")
    points = points_filter(sweep)
    whole = f"{points} and attributes.status = 'FINISHED'"

    def runs(**view: str) -> str:
        return _address(base, experiment_id, "runs", view)

    many = len(sweep.points) > MOST_SIDE_BY_SIDE
    if many and runs_of:
        ids = ", ".join(f"'{runs_of[p.label]}'" for p in side_by_side(sweep) if p.label in runs_of)
        whole = f"attributes.run_id IN ({ids})"
    # By itself the UI charts the first ten; only a shared view can say otherwise.
    charted = {"viewStateShareKey": view_key(sweep)} if many else {"searchFilter": points, **BY_SPEED}
    links = [
        Link("texts", runs(searchFilter=whole, **BY_SPEED, compareRunsMode="ARTIFACT")),
        Link("charts", runs(**charted, compareRunsMode="CHART")),
    ]
    if parent:
        links.append(Link("page", _address(base, experiment_id, f"runs/{parent}/artifacts/compare.html", {})))
    links.append(Link("runs", runs(viewStateShareKey=view_key(sweep))))
    if sweep.tracking.get("traces"):
        view = {"startTimeLabel": "ALL", "tag": f"sweep_id={sweep.sweep_id}"}
        links.append(Link("traces", _address(base, experiment_id, "traces", view)))
    return tuple(links)


def _address(base: str, experiment_id: str, page: str, view: Mapping[str, str]) -> str:
    # The UI's other face, "GenAI", names and hides things differently.
    asked = {**view, "workflowType": "machine_learning"}
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in asked.items())
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}/{page}?{query}"


def closing_lines(sweep: Sweep, links: tuple[Link, ...], uri: str) -> list[str]:
    """What to print after a run: how to open the UI, and where in it the sweep is."""
    if not links:
        return []
    lines = [] if is_server(uri) else ["harness ui   # then open one of these"]
    width = max(len(link.name) for link in links)
    lines += [f"{link.name:<{width}}  {link.url}" for link in links]
    shown = sum(point.status in ("done", "reused") for point in sweep.points)
    if shown > MOST_SIDE_BY_SIDE:
        lines.append(
            f"MLflow puts {MOST_SIDE_BY_SIDE} runs side by side: the baseline and what differs least; "
            f"compare.html shows all {shown}."
        )
    return lines
