"""What MLflow is told while a sweep runs: a parent run a sweep, below it a run a point, each exactly once.

A point's run is made when the point is whole, with the times at which it really ran; so a process that is
killed leaves no half-told point behind. Telling is idempotent: what MLflow holds already stays, what it
holds half or from an older version of the point is replaced. When MLflow cannot be reached, one warning is
given and decoding goes on; `harness sync` tells it later.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.expectations import check_expectations, check_point
from harness.analysis.point_results import stored_of
from harness.errors import HarnessError
from harness.report.write import tokens_page
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint
from harness.tracking.facts import (
    EXPECTATIONS,
    TABLE_TAG,
    digest,
    expectations_tag,
    generations_json,
    metrics_of,
    params_of,
    per_prompt_of,
    tags_of,
    text_digest,
    varied_params,
)
from harness.tracking.links import Link, sweep_links, table_view, view_key
from harness.tracking.mlflow_store import Store, is_orphan, owner
from harness.tracking.uri import tracking_uri

log = logging.getLogger(__name__)

POINT_FILES = (
    "generations.parquet",
    "times.parquet",
    "tokens.parquet",
    "prompt_tokens.parquet",
    "timing.parquet",
    "drift.parquet",
    "drift_text.parquet",
    "drift.json",
    "metrics.json",
    "config.yaml",
    "environment.json",
)
SWEEP_FILES = ("plan.json", "summary.csv", "comparison.csv", "compare.html", "drift.json")
TRACES_TAG = "traces"
TELLABLE = ("done", "reused", "failed")


class Tracker:
    """Tells nothing: what a sweep gets that is not tracked, and the interface of the one that does.

    Attributes:
        uri: of the store that is told; empty when nothing is.
    """

    uri = ""

    def open(self, sweep: Sweep) -> None:
        """Begin, or go on with, the sweep's parent run."""

    def log_point(self, sweep: Sweep, index: int) -> None:
        """Tell of a point that is done, reused or failed; nothing when MLflow holds it already."""

    def close(self, sweep: Sweep, status: str) -> None:
        """End the parent run as FINISHED, FAILED or KILLED, with the sweep's reports."""

    def links(self, sweep: Sweep) -> tuple[Link, ...]:
        """Where to look at the sweep; empty when there is nowhere."""
        return ()


@dataclass(frozen=True)
class _Told:
    """A point's run: its id, how it ended, and the tags that it was made with."""

    run_id: str
    status: str
    tags: Mapping[str, str]


class MlflowTracker(Tracker):
    """Tells MLflow.

    Args:
        uri: the tracking URI.
        strict: raise what goes wrong instead of warning once and going on.
    """

    def __init__(self, uri: str, strict: bool = False) -> None:
        self.uri = uri
        self.strict = strict
        self.written = 0
        self._store: Store | None = None
        self._parent = ""
        self._parent_tags: Mapping[str, str] = {}
        self._children: dict[tuple[str, str], _Told] = {}
        self._broken = False

    def open(self, sweep: Sweep) -> None:
        """Find or make the parent run, clear away what died, and learn which points are there."""
        self._guarded(lambda: self._open(sweep))

    def log_point(self, sweep: Sweep, index: int) -> None:
        """Tell of one point."""
        if sweep.points[index].status in TELLABLE:
            self._guarded(lambda: self._log_point(sweep, sweep.points[index]))

    def close(self, sweep: Sweep, status: str) -> None:
        """Write the sweep's files to the parent run and end it."""
        self._guarded(lambda: self._close(sweep, status))

    def links(self, sweep: Sweep) -> tuple[Link, ...]:
        """Links into the MLflow UI; empty when MLflow could not be told."""
        if self._store is None or self._broken:
            return ()
        children = {label: told.run_id for (_, label), told in self._children.items()}
        return sweep_links(sweep, self._store.experiment_id, self.uri, runs_of=children, parent=self._parent)

    def _guarded(self, tell: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            tell()
        except Exception as error:
            if self.strict:
                raise
            self._broken = True
            log.warning(
                "MLflow at %s could not be told (%s); results are kept, `harness sync` tells it later",
                self.uri,
                one_line(error),
            )
            self._give_up()

    def _give_up(self) -> None:
        """End the parent run if it can be reached: what is not whole is not left RUNNING."""
        if self._store is not None and self._parent:
            with contextlib.suppress(Exception):
                self._store.end(self._parent, "KILLED", time.time())

    def _open(self, sweep: Sweep) -> None:
        self._store = store = Store(self.uri, str(sweep.tracking.get("experiment") or "harness"))
        self._clear_orphans(store)
        parents = store.runs(sweep_id=sweep.sweep_id, kind="sweep")
        tags = {"sweep_id": sweep.sweep_id, "kind": "sweep", "sweep": sweep.name, **owner()}
        if parents:
            self._parent = parents[0].info.run_id
            self._parent_tags = parents[0].data.tags
            store.client.update_run(self._parent, status="RUNNING", name=sweep.name)
            for name, value in tags.items():
                store.client.set_tag(self._parent, name, value)
        else:
            tags["points"] = str(len(sweep.points))
            self._parent = store.create(sweep.name, tags, sweep.started)
            store.log(self._parent, varied_params(sweep.points), [], sweep.started)
        self._children = {}
        for run in store.runs(mlflow__parentRunId=self._parent):
            key = (run.data.tags.get("point_id", ""), run.data.tags.get("label", ""))
            if run.info.status == "RUNNING" or key in self._children:
                self._forget(store, run.info.run_id)
            else:
                self._children[key] = _Told(run.info.run_id, run.info.status, run.data.tags)

    def _clear_orphans(self, store: Store) -> None:
        """End the sweeps of processes that are gone, and drop the points they were in the middle of."""
        for parent in store.runs(kind="sweep"):
            if parent.info.status != "RUNNING" or not is_orphan(parent.data.tags):
                continue
            for child in store.runs(mlflow__parentRunId=parent.info.run_id):
                if child.info.status == "RUNNING":
                    self._forget(store, child.info.run_id)
            store.end(parent.info.run_id, "KILLED", None)

    @staticmethod
    def _forget(store: Store, run_id: str) -> None:
        """Take a point's run out of sight, with the traces that are still its own and nobody spoke of."""
        from harness.tracking.traces import delete_traces

        delete_traces(store, run_id)
        store.delete(run_id)

    def _log_point(self, sweep: Sweep, point: SweepPoint) -> None:
        store = self._store
        if store is None:
            raise HarnessError("the tracker was not opened")
        stored = stored_of(sweep, point)
        if stored is None and point.status != "failed":
            raise HarnessError(f"{point.label}: its folder in the store holds no generations")
        expected = expectations_tag(check_point(sweep, point))
        there = self._children.get((point.point_id, point.label))
        told = digest(stored) if stored else text_digest(f"{point.error}\n{point.traceback}")
        status = "FINISHED" if stored else "FAILED"
        before = there.tags if there is not None else {}
        # Traces that are there stay, for what was said of them, even where none are asked for any more.
        traced = bool(stored and (sweep.tracking.get("traces") or TRACES_TAG in before))
        started, ended = times_of(point, stored)
        if there is not None and there.status == status and before.get("digest") == told:
            store.keep_tag(there.run_id, there.tags, EXPECTATIONS, expected)
            if stored and traced and TRACES_TAG not in before:
                self._trace(store, there.run_id, sweep, point, stored)
            return
        tags = tags_of(sweep, point) | {"mlflow.parentRunId": self._parent, "digest": told}
        if stored:
            tags["mlflow.loggedArtifacts"] = TABLE_TAG
        if expected:
            tags[EXPECTATIONS] = expected
        run_id = store.create(point.label, tags, started)
        try:
            self._fill(store, run_id, sweep, point, stored, ended)
            if stored and traced:
                self._trace(store, run_id, sweep, point, stored)
            store.end(run_id, status, ended)
        except BaseException:
            # Interrupted or out of order: a half-told point is worse than none.
            with contextlib.suppress(Exception):
                self._forget(store, run_id)
            raise
        if there is not None:
            # Only now, so that whenever this is cut short, one run holds the point and the traces live on.
            self._forget(store, there.run_id)
        self._children[point.point_id, point.label] = _Told(run_id, status, tags)
        self.written += 1

    @staticmethod
    def _fill(
        store: Store,
        run_id: str,
        sweep: Sweep,
        point: SweepPoint,
        stored: StoredPoint | None,
        ended: float,
    ) -> None:
        """Write params, metrics and artifacts of a point into its run."""
        with tempfile.TemporaryDirectory() as folder:
            if stored:
                metrics = [(key, value, 0) for key, value in metrics_of(stored).items()]
                store.log(run_id, params_of(stored), metrics + per_prompt_of(stored), ended)
                note = _gather(Path(folder), sweep, point, stored)
                if note:
                    store.client.set_tag(run_id, "texts", note)
            elif point.traceback:
                (Path(folder) / "traceback.txt").write_text(
                    point.traceback, encoding="utf-8", errors="replace"
                )
            store.client.log_artifacts(run_id, folder)

    @staticmethod
    def _trace(store: Store, run_id: str, sweep: Sweep, point: SweepPoint, stored: StoredPoint) -> None:
        """Write the traces of a point; its run says so once all are there."""
        from harness.tracking.traces import log_traces

        log_traces(store, run_id, sweep, point, stored, times_of(point, stored))
        store.client.set_tag(run_id, TRACES_TAG, "one a text")

    def _close(self, sweep: Sweep, status: str) -> None:
        store = self._store
        if store is None:
            return
        store.share_view(view_key(sweep), table_view(sweep))
        for name in SWEEP_FILES:
            if (sweep.folder / name).is_file():
                store.client.log_artifact(self._parent, str(sweep.folder / name))
        expected = expectations_tag(check_expectations(sweep), with_labels=True)
        store.keep_tag(self._parent, self._parent_tags, EXPECTATIONS, expected)
        counts: dict[str, int] = {}
        for point in sweep.points:
            counts[point.status] = counts.get(point.status, 0) + 1
        store.client.set_tag(self._parent, "points", ", ".join(f"{n} {name}" for name, n in counts.items()))
        store.end(self._parent, status, time.time())


def open_tracker(sweep: Sweep) -> Tracker:
    """The tracker that the sweep's config asks for; it is opened with `Tracker.open`.

    Raises:
        ConfigError: tracking.uri is nothing that MLflow can log to.
    """
    if not sweep.tracking.get("enabled", True):
        return Tracker()
    return MlflowTracker(tracking_uri(sweep.tracking))


def times_of(point: SweepPoint, stored: StoredPoint | None) -> tuple[float, float]:
    """When the point ran, seconds since the epoch; for one from the store, when it was stored."""
    if point.started is not None and point.ended is not None:
        return point.started, point.ended
    if stored is None:
        now = time.time()
        return now, now
    at = stored.path("tokens.parquet").stat().st_mtime  # metrics write generations.parquet again
    return at, at


def one_line(error: BaseException) -> str:
    """The first line of an error, not too long; of a request, that it failed and not the client's innards."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(" with exception ")[0][:300]


def _gather(folder: Path, sweep: Sweep, point: SweepPoint, stored: StoredPoint) -> str:
    """Lay out a point's artifacts: all at the root, where links of the UI can select them.

    Returns:
        What the table of texts leaves out; empty when it holds them all.
    """
    import shutil

    for name in POINT_FILES:
        if stored.has(name):
            shutil.copyfile(stored.path(name), folder / name)
    shutil.copyfile(tokens_page(sweep, point, stored), folder / "tokens.html")
    table = generations_json(stored)
    (folder / "generations.json").write_text(table.json, encoding="utf-8")
    return table.note
