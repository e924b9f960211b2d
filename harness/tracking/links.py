"""Links into the MLflow UI that show a sweep at once."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from harness.results.sweeps import Sweep
from harness.tracking.uri import is_server

LOCAL = "http://127.0.0.1:5000"
"""Where `harness ui` serves."""

MOST_SIDE_BY_SIDE = 10
"""Runs that the UI puts side by side at most."""


@dataclass(frozen=True)
class Link:
    """What is seen there, and where."""

    name: str
    url: str


def sweep_links(sweep: Sweep, experiment_id: str, uri: str = "", base: str = LOCAL) -> tuple[Link, ...]:
    """The sweep's texts side by side, its charts, and its runs as a table.

    Args:
        sweep: whose points are shown.
        experiment_id: in the store at `uri`.
        uri: tracking URI; a server's own address is taken instead of `base`.
        base: address of the UI.
    """
    base = (uri if is_server(uri) else base).rstrip("/")
    points = f"tags.sweep_id = '{sweep.sweep_id}' and tags.kind = 'generation'"
    told = "attributes.status = 'FINISHED'"
    by_speed = {"orderByKey": "metrics.`latency/itl_p50_ms`", "orderByAsc": "true"}

    def runs(**view: str) -> str:
        asked = "&".join(f"{key}={quote(value, safe='')}" for key, value in view.items())
        return f"{base}/#/experiments/{quote(experiment_id, safe='')}/runs?{asked}"

    return (
        Link(
            "texts side by side",
            runs(searchFilter=f"{points} and {told}", **by_speed, compareRunsMode="ARTIFACT"),
        ),
        Link("charts", runs(searchFilter=points, **by_speed, compareRunsMode="CHART")),
        Link("runs", runs(searchFilter=points, **by_speed)),
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
