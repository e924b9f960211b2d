"""The last sweeps of a store, as `harness ui` lists them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from fake_points import make_sweep
from mlflow_runs import log_sweep, runs

from harness.store.sweeps import Sweep
from harness.tracking.recent_sweeps import recent_sweeps

BASE = "http://127.0.0.1:5001"


def sweep_at(outputs: Path, number: int, tracked: bool = True, **more: object) -> Sweep:
    """Save and log a sweep that ended `number` seconds after the first one."""
    made = make_sweep(outputs, models=(f"m{number}",), tokens=3)
    sweep = replace(
        made,
        sweep_id=f"{number:010x}",
        folder=made.folder.with_name(f"demo-{number:010x}"),
        title=f"sweep {number}",
        **more,  # type: ignore[arg-type]
    )
    sweep.save()
    if tracked:
        log_sweep(sweep)
    os.utime(sweep.folder / "plan.json", (1e9 + number, 1e9 + number))
    return sweep


def titles(outputs: Path, store: str, count: int = 5) -> list[str]:
    return [recent.sweep.title for recent in recent_sweeps(outputs, store, BASE, count)]


def test_the_last_ones_come_first_and_no_more_than_asked(outputs: Path, store: str) -> None:
    for number in (2, 3, 1):
        sweep_at(outputs, number)
    assert titles(outputs, store) == ["sweep 3", "sweep 2", "sweep 1"]
    assert titles(outputs, store, 2) == ["sweep 3", "sweep 2"]


def test_sweeps_that_are_not_in_this_store_are_not_listed(outputs: Path, store: str) -> None:
    kept = sweep_at(outputs, 1)
    sweep_at(outputs, 2, tracked=False)  # planned, never logged
    sweep_at(outputs, 3, tracked=False, tracking={"enabled": False})
    sweep_at(outputs, 4, tracked=False, tracking={"uri": "http://mlflow.example.test"})
    damaged = sweep_at(outputs, 5)
    (damaged.folder / "plan.json").write_text("{")
    assert titles(outputs, store) == [kept.title]


def test_the_links_lead_to_this_ui_and_the_sweeps_own_run(outputs: Path, store: str) -> None:
    sweep_at(outputs, 1)
    (recent,) = recent_sweeps(outputs, store, BASE)
    (parent,) = runs(store, "sweep")
    links = {link.name: link.url for link in recent.links}
    home = f"{BASE}/#/experiments/{parent.info.experiment_id}"
    assert links["page"].startswith(f"{home}/runs/{parent.info.run_id}/artifacts/compare.html")
    assert "viewStateShareKey=harness-0000000001" in links["runs"]
    assert all(url.startswith(home) for url in links.values())


def test_outputs_are_ordered_by_what_was_measured(outputs: Path, store: str) -> None:
    sweep_at(outputs, 1)
    (recent,) = recent_sweeps(outputs, store, BASE)
    url = next(link.url for link in recent.links if link.name == "outputs")
    assert parse_qs(urlsplit(url.replace("#/", "")).query)["orderByKey"] == ["metrics.`latency/itl_p50_ms`"]
