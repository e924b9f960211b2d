"""Links into the MLflow UI that open a sweep: its outputs, charts, page, runs and traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from harness.analysis.metric_catalog import HEADLINES
from harness.config.secret_text import bare_address
from harness.store.mlflow_uri import is_server
from harness.store.sweeps import Sweep, SweepPoint

LOCAL = "http://127.0.0.1:5000"
"""The address at which `harness ui` serves."""

MAX_SIDE_BY_SIDE = 10
"""Runs that the UI puts side by side at most."""

BY_SPEED = {"orderByKey": "metrics.`latency/itl_p50_ms`", "orderByAsc": "true"}
"""Any order but the default one lists points as rows; in that one they are collapsed below their parent."""


@dataclass(frozen=True)
class Link:
    """A view of the sweep in the UI: its name and its URL."""

    name: str
    url: str


def points_filter(sweep: Sweep) -> str:
    """Return the filter string of MLflow's search that selects the runs of the sweep's points."""
    return f"tags.sweep_id = '{sweep.sweep_id}' and tags.kind = 'generation'"


def side_by_side(sweep: Sweep) -> tuple[SweepPoint, ...]:
    """Return the points whose outputs the UI puts side by side, in the sweep's order.

    All of them, or the baseline and the nine that differ from it in the fewest keys.
    """
    complete = [point for point in sweep.points if point.status in ("done", "reused")]
    if len(complete) <= MAX_SIDE_BY_SIDE:
        return tuple(complete)
    baseline = next((p for p in complete if p.label == sweep.compare.get("baseline")), complete[0])
    keys = {key for point in complete for key in point.varied}

    def keys_differing(point: SweepPoint) -> int:
        return sum(point.varied.get(key) != baseline.varied.get(key) for key in keys)

    nearest = sorted(complete, key=keys_differing)[:MAX_SIDE_BY_SIDE]
    return tuple(point for point in complete if point in nearest)


def view_key(sweep: Sweep) -> str:
    """Return the name under which `table_view` is shared."""
    return f"harness-{sweep.sweep_id}"


def table_view(sweep: Sweep) -> dict[str, Any]:
    """Return a state of the runs page: the sweep's points with the headline metrics and what varies."""
    attributes = ("model", "quantization", "decoding")
    varying = [name for name in attributes if len({getattr(p, name) for p in sweep.points}) > 1]
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
    run_ids: Mapping[str, str] | None = None,
    parent: str = "",
) -> tuple[Link, ...]:
    """Return links to the sweep's outputs side by side, its charts, its page, its runs and any traces.

    Args:
        sweep: whose points are shown.
        experiment_id: in the store at `uri`.
        uri: tracking URI; links go to a server's address, else to LOCAL.
        run_ids: ids of the points' runs by label, to choose those that are put side by side.
        parent: id of the sweep's run, which has compare.html.
    """
    base = (bare_address(uri) if is_server(uri) else LOCAL).rstrip("/")
    points = points_filter(sweep)
    finished = f"{points} and attributes.status = 'FINISHED'"

    def runs(**view: str) -> str:
        return _url(base, experiment_id, "runs", view)

    many = len(sweep.points) > MAX_SIDE_BY_SIDE
    if many and run_ids:
        ids = ", ".join(f"'{run_ids[p.label]}'" for p in side_by_side(sweep) if p.label in run_ids)
        finished = f"attributes.run_id IN ({ids})"
    # By default the UI charts the first ten runs; only a shared view can make it chart all.
    charted = {"viewStateShareKey": view_key(sweep)} if many else {"searchFilter": points, **BY_SPEED}
    links = [
        Link("outputs", runs(searchFilter=finished, **BY_SPEED, compareRunsMode="ARTIFACT")),
        Link("charts", runs(**charted, compareRunsMode="CHART")),
    ]
    if parent:
        links.append(Link("page", _url(base, experiment_id, f"runs/{parent}/artifacts/compare.html", {})))
    links.append(Link("runs", runs(viewStateShareKey=view_key(sweep))))
    if sweep.tracking.get("traces"):
        view = {"startTimeLabel": "ALL", "tag": f"sweep_id={sweep.sweep_id}"}
        links.append(Link("traces", _url(base, experiment_id, "traces", view)))
    return tuple(links)


def _url(base: str, experiment_id: str, page: str, view: Mapping[str, str]) -> str:
    # The UI's other workflow, "GenAI", names and hides things differently.
    parameters = {**view, "workflowType": "machine_learning"}
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in parameters.items())
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}/{page}?{query}"


def closing_lines(sweep: Sweep, links: tuple[Link, ...], uri: str) -> list[str]:
    """Return what to print after a run: how to start the UI, and the links to the sweep."""
    if not links:
        return []
    lines = [] if is_server(uri) else ["harness ui   # then open"]
    width = max(len(link.name) for link in links)
    lines += [f"{link.name:<{width}}  {link.url}" for link in links]
    shown = sum(point.status in ("done", "reused") for point in sweep.points)
    if shown > MAX_SIDE_BY_SIDE:
        lines.append(
            f"MLflow puts {MAX_SIDE_BY_SIDE} runs side by side: the baseline and the most similar ones; "
            f"compare.html shows all {shown}."
        )
    return lines
