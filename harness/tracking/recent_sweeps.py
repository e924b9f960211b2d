"""The last sweeps of a store, with links to them in the MLflow UI: what `harness ui` lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.analysis.metric_catalog import METRICS, Metric, metrics_from_json
from harness.analysis.point_results import stored_of
from harness.errors import ConfigError
from harness.store.mlflow_uri import tracking_uri
from harness.store.sweeps import Sweep, load_sweep
from harness.tracking.database import opened
from harness.tracking.facts import metric_key
from harness.tracking.links import Link, points_filter, sweep_links


@dataclass(frozen=True)
class RecentSweep:
    """A sweep and its links; none where MLflow does not know it."""

    sweep: Sweep
    links: tuple[Link, ...]


def recent_sweeps(outputs: Path, uri: str, base: str, count: int = 5) -> list[RecentSweep]:
    """Return the last sweeps that are tracked at `uri`, the last one first.

    Args:
        outputs: the outputs folder.
        uri: the tracking URI.
        base: address of the UI.
        count: how many.
    """
    found: list[RecentSweep] = []
    folders = sorted((outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime)
    with opened(uri) as client:
        pass
    for path in reversed(folders):
        try:
            sweep = load_sweep(path.parent)
            if not sweep.tracking.get("enabled", True) or tracking_uri(sweep.tracking) != uri:
                continue
        except ConfigError:  # damaged, or of another version
            continue
        experiment = client.get_experiment_by_name(str(sweep.tracking.get("experiment") or "harness"))
        if experiment is None:
            continue
        home = experiment.experiment_id
        parents = client.search_runs(
            [home], f"tags.sweep_id = '{sweep.sweep_id}' and tags.kind = 'sweep'", max_results=1
        )
        if not parents:
            continue
        points = client.search_runs([home], points_filter(sweep), max_results=1000)
        measured = {key for run in points for key in run.data.metrics}
        ordering = _ordering(sweep, parents[0].data.tags.get("goal", ""), measured)
        links = sweep_links(
            sweep,
            home,
            uri,
            run_ids={run.data.tags.get("label", ""): run.info.run_id for run in points},
            parent=parents[0].info.run_id,
            metrics=ordering,
            base=base,
            goal=ordering[0].key if ordering else "",
        )
        found.append(RecentSweep(sweep, links))
        if len(found) == count:
            break
    return found


def _ordering(sweep: Sweep, goal: str, measured: set[str]) -> tuple[Metric, ...]:
    """Return the metrics that runs are ordered by, of those that MLflow has: the goal, then others."""
    stored = next(filter(None, (stored_of(sweep, point) for point in sweep.points)), None)
    custom = metrics_from_json(stored.metrics()) if stored and stored.has("metrics.json") else {}
    by_key = {metric_key(metric.key): metric for metric in (*METRICS, *custom.values())}
    wanted = [goal, "quality/chrf", "quality/exact_match", "latency/itl_p50_ms"]
    return tuple(by_key[key] for key in wanted if key in measured and key in by_key)
