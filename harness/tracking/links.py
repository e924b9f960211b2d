"""Links into the MLflow UI that open a sweep: its outputs, charts, page, runs and traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from harness.analysis.metric_catalog import Metric, metric_of
from harness.config.secret_text import bare_address
from harness.store.mlflow_uri import is_server
from harness.store.sweeps import Sweep, SweepPoint
from harness.tracking.facts import metric_key

LOCAL = "http://127.0.0.1:5000"
"""The address at which `harness ui` serves."""

MAX_SIDE_BY_SIDE = 10
"""Runs that the UI puts side by side at most."""


@dataclass(frozen=True)
class Link:
    """A view of the sweep in the UI: its name and its URL."""

    name: str
    url: str


def order_of(metrics: Sequence[Metric], goal: str = "") -> dict[str, str]:
    """Return the order of the runs: by the goal or a reference's metric, else by speed; the best first.

    Any order but the default one lists points as rows; in that one they are collapsed below their parent.

    Args:
        metrics: the key metrics, most important first.
        goal: key of the metric that the sweep is about; empty without one.
    """
    speed = metric_of("latency/itl_p50_ms")
    directed = [metric for metric in metrics if metric.better]
    first = next((metric for metric in directed if metric.key == goal), None)
    if first is None:
        by_result = next(iter(directed), speed)
        by_speed = by_result.visibility == "headline" and (speed in directed or not directed)
        first = speed if by_speed else by_result
    return {
        "orderByKey": f"metrics.`{metric_key(first.key)}`",
        "orderByAsc": "false" if first.better == "higher" else "true",
    }


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
    """Return the name under which the sweep's view is shared (`tracking.shared_view`)."""
    return f"harness-{sweep.sweep_id}"


def sweep_links(
    sweep: Sweep,
    experiment_id: str,
    uri: str = "",
    run_ids: Mapping[str, str] | None = None,
    parent: str = "",
    metrics: Sequence[Metric] = (),
    base: str = "",
    goal: str = "",
) -> tuple[Link, ...]:
    """Return links to the sweep's outputs side by side, its charts, its page, its runs and any traces.

    Args:
        sweep: whose points are shown.
        experiment_id: in the store at `uri`.
        uri: tracking URI.
        run_ids: ids of the points' runs by label, to choose those that are put side by side.
        parent: id of the sweep's run, which has compare.html.
        metrics: the key metrics of its points, most important first.
        base: address of the UI; empty: the server at `uri`, else LOCAL.
        goal: key of the metric that the sweep is about; empty without one.
    """
    base = (base or (bare_address(uri) if is_server(uri) else LOCAL)).rstrip("/")
    points = points_filter(sweep)
    finished = f"{points} and attributes.status = 'FINISHED'"

    def runs(**view: str) -> str:
        return _url(base, experiment_id, "runs", view)

    many = len(sweep.points) > MAX_SIDE_BY_SIDE
    if many and run_ids:
        ids = ", ".join(f"'{run_ids[p.label]}'" for p in side_by_side(sweep) if p.label in run_ids)
        finished = f"attributes.run_id IN ({ids})"
    links = [
        Link("outputs", runs(searchFilter=finished, **order_of(metrics, goal), compareRunsMode="ARTIFACT")),
        Link("charts", runs(viewStateShareKey=view_key(sweep), compareRunsMode="CHART")),
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
