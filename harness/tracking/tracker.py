"""Tracking of a running sweep in MLflow: a parent run for the sweep, below it one run per point.

A point's run is created when the point is complete, with the times at which it really ran; so a process that
is killed leaves no incomplete run behind. Logging is idempotent: a run that is up to date stays, one that is
incomplete or of an older version of the point is replaced. When MLflow cannot be reached, one warning is
given and decoding goes on; `harness sync` logs the sweep later.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.analysis.expectations import check_expectations, check_point
from harness.analysis.metric_catalog import HEADLINES, Metric
from harness.analysis.point_results import damage_of, stored_of
from harness.artifacts.registry import point_files
from harness.config.secret_text import safe_address
from harness.report.write import Written, tokens_page
from harness.store.mlflow_uri import tracking_uri
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint
from harness.tracking.database import reason_of
from harness.tracking.description import TAG as NOTE
from harness.tracking.facts import (
    EXPECTATIONS,
    expectations_tag,
    metric_key,
    metrics_of,
    per_prompt_of,
    point_digest,
    run_names,
    sweep_run_name,
    tags_of,
)
from harness.tracking.generations_table import TABLE_TAG, generations_json
from harness.tracking.links import Link, sweep_links, view_key
from harness.tracking.mlflow_store import MlflowStore, is_orphan, owner_tags
from harness.tracking.params import point_params, varied_params
from harness.tracking.parent_facts import COMMAND, command_of, dataset_input
from harness.tracking.shared_view import table_view
from harness.tracking.sweep_answer import SweepAnswer, answer_of
from harness.tracking.traces import delete_traces, log_traces

log = logging.getLogger(__name__)

SWEEP_FILES = ("plan.json", "summary.csv", "comparison.csv", "compare.html", "drift.json", "selection.json")
TRACES_TAG = "traces"
LOGGABLE = ("done", "reused", "failed")
"""Statuses of the points that get a run."""


class Tracker:
    """The interface of a tracker, and the one of a sweep that is not tracked: it logs nothing.

    Attributes:
        uri: the tracking URI; empty when nothing is logged.
    """

    uri = ""

    def open(self, sweep: Sweep) -> None:
        """Begin or resume the sweep's parent run."""

    def log_point(self, sweep: Sweep, index: int) -> None:
        """Log a point that is done, reused or failed, unless MLflow has it already."""

    def close(self, sweep: Sweep, status: str, written: Written | None = None) -> None:
        """End the parent run as FINISHED, FAILED or KILLED, with the sweep's reports and its answer.

        `written` is what the reports show; None when they could not be written.
        """

    def links(self, sweep: Sweep) -> tuple[Link, ...]:
        """Return links to the sweep; empty when it is not tracked."""
        return ()


class MlflowTracker(Tracker):
    """Logs to MLflow.

    Args:
        uri: the tracking URI.
        strict: raise errors, instead of warning once and going on without tracking.
        owner: id of the process whose end leaves the parent run without an owner; this one's when None.

    Attributes:
        written: number of points whose runs this tracker has created.
    """

    def __init__(self, uri: str, strict: bool = False, owner: int | None = None) -> None:
        self.uri = uri
        self.strict = strict
        self._owner = owner
        self.written = 0
        self._store: MlflowStore | None = None
        self._parent = ""
        self._parent_tags: Mapping[str, str] = {}
        self._parent_metrics: Mapping[str, float] = {}
        # Run ids of the points, and the tags that those runs were created with, by point id and label.
        self._children: dict[tuple[str, str], tuple[str, Mapping[str, str]]] = {}
        self._names: Mapping[str, str] = {}
        self._metrics: Sequence[Metric] = ()
        self._ended = 0.0
        self._goal = ""
        self._broken = False

    def open(self, sweep: Sweep) -> None:
        """Find or create the parent run, clean up after dead processes, and look up the points' runs."""
        self._guarded(lambda: self._open(sweep))

    def log_point(self, sweep: Sweep, index: int) -> None:
        """Log one point."""
        if sweep.points[index].status in LOGGABLE:
            self._guarded(lambda: self._log_point(sweep, sweep.points[index]))

    def close(self, sweep: Sweep, status: str, written: Written | None = None) -> None:
        """Write the sweep's files and its answer to the parent run and end it."""
        self.close_with(sweep, status, lambda: answer_of(written, sweep.folder) if written else None)

    def close_with(self, sweep: Sweep, status: str, answer: Callable[[], SweepAnswer | None]) -> None:
        """Close as `close` does, with the answer that a function returns."""
        self._guarded(lambda: self._close(sweep, status, answer()))

    def links(self, sweep: Sweep) -> tuple[Link, ...]:
        """Return links into the MLflow UI; empty when logging failed."""
        if self._store is None or self._broken:
            return ()
        run_ids = {label: run_id for (_, label), (run_id, _) in self._children.items()}
        home = self._store.experiment_id, self.uri
        return sweep_links(
            sweep, *home, run_ids=run_ids, parent=self._parent, metrics=self._metrics, goal=self._goal
        )

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:
            if self.strict:
                raise
            self._broken = True
            log.warning("%s", not_logged(safe_address(self.uri), reason_of(error)))
            # The parent run must not stay RUNNING.
            if self._store is not None and self._parent:
                with contextlib.suppress(Exception):
                    self._store.end(self._parent, "KILLED", time.time())

    def _open(self, sweep: Sweep) -> None:
        self._store = store = MlflowStore(self.uri, str(sweep.tracking.get("experiment") or "harness"))
        self._clear_orphans(store)
        parents = store.runs(sweep_id=sweep.sweep_id, kind="sweep")
        self._names = run_names(sweep)
        tags = {"sweep_id": sweep.sweep_id, "kind": "sweep", "sweep": sweep.name, "title": sweep.title}
        tags |= owner_tags(self._owner)
        if command := command_of(sweep.folder):
            tags[COMMAND] = command
        if parents:
            self._parent = parents[0].info.run_id
            self._parent_tags = parents[0].data.tags
            self._parent_metrics = parents[0].data.metrics
            self._ended = (parents[0].info.end_time or 0) / 1000
            store.client.update_run(self._parent, status="RUNNING", name=sweep_run_name(sweep))
            for name, value in tags.items():
                store.client.set_tag(self._parent, name, value)
        else:
            tags["points"] = str(len(sweep.points))
            self._parent = store.create(sweep_run_name(sweep), tags, sweep.started)
            store.log(self._parent, varied_params(sweep.points), [], sweep.started)
        self._children = {}
        for run in store.runs(mlflow__parentRunId=self._parent):
            key = (run.data.tags.get("point_id", ""), run.data.tags.get("label", ""))
            if run.info.status == "RUNNING" or key in self._children:
                self._delete(store, run.info.run_id)
            else:
                self._children[key] = run.info.run_id, run.data.tags

    def _clear_orphans(self, store: MlflowStore) -> None:
        """End the parent runs of dead processes, and delete the runs that they left incomplete."""
        for parent in store.runs(kind="sweep"):
            if parent.info.status != "RUNNING" or not is_orphan(parent.data.tags):
                continue
            for child in store.runs(mlflow__parentRunId=parent.info.run_id):
                if child.info.status == "RUNNING":
                    self._delete(store, child.info.run_id)
            store.end(parent.info.run_id, "KILLED", None)

    @staticmethod
    def _delete(store: MlflowStore, run_id: str) -> None:
        """Delete a point's run, with those of its traces that have no feedback."""
        delete_traces(store, run_id)
        store.client.delete_run(run_id)

    def _log_point(self, sweep: Sweep, point: SweepPoint) -> None:
        store = self._store
        assert store is not None, "the tracker was not opened"
        stored = stored_of(sweep, point)
        if stored is None and point.status != "failed":
            gone = damage_of(sweep, point) or "no longer in the store; run the sweep again to generate it"
            log.warning("%s is not logged: %s", point.label, gone)
            return
        expected = expectations_tag(check_point(sweep, point))
        old_id, old_tags = self._children.get((point.point_id, point.label), ("", {}))
        digest = point_digest(stored, "" if stored else f"{point.error}\n{point.traceback}")
        # Existing traces are kept for the feedback on them, even where traces are no longer asked for.
        traced = bool(stored and (sweep.tracking.get("traces") or TRACES_TAG in old_tags))
        started, ended = times_of(point, stored)
        if old_tags.get("digest") == digest:
            store.update_tag(old_id, old_tags, EXPECTATIONS, expected)
            if stored and traced and TRACES_TAG not in old_tags:
                self._trace(store, old_id, sweep, point, stored)
            return
        tags = tags_of(sweep, point) | {"mlflow.parentRunId": self._parent, "digest": digest}
        if stored:
            tags["mlflow.loggedArtifacts"] = TABLE_TAG
        if expected:
            tags[EXPECTATIONS] = expected
        run_id = store.create(self._names[point.label], tags, started)
        try:
            if stored:
                metrics = [(key, value, 0) for key, value in metrics_of(stored).items()]
                store.log(run_id, point_params(point, stored), metrics + per_prompt_of(stored), ended)
            with tempfile.TemporaryDirectory() as folder:
                if note := _gather(Path(folder), sweep, point, stored):
                    store.client.set_tag(run_id, "texts", note)
                store.client.log_artifacts(run_id, folder)
            if stored and traced:
                self._trace(store, run_id, sweep, point, stored)
            store.end(run_id, "FINISHED" if stored else "FAILED", ended)
        except BaseException:
            # Interrupted or failed: an incomplete run is worse than none.
            with contextlib.suppress(Exception):
                self._delete(store, run_id)
            raise
        if old_id:
            # Last, so that an interruption at any time leaves a complete run, and the traces.
            self._delete(store, old_id)
        self._children[point.point_id, point.label] = run_id, tags
        self.written += 1

    @staticmethod
    def _trace(store: MlflowStore, run_id: str, sweep: Sweep, point: SweepPoint, stored: StoredPoint) -> None:
        """Write the traces of a point; its run is tagged once all are written."""
        log_traces(store, run_id, sweep, point, stored, times_of(point, stored))
        store.client.set_tag(run_id, TRACES_TAG, "one per sample")

    def _close(self, sweep: Sweep, status: str, answer: SweepAnswer | None) -> None:
        store = self._store
        if store is None:
            return
        if answer:
            self._log_answer(store, answer)
        charted = [metric for metric in self._metrics if answer and metric.key in answer.charted]
        view = table_view(sweep, self._metrics or HEADLINES, charted, self._goal)
        store.share_view(view_key(sweep), view)
        for name in SWEEP_FILES:
            if (sweep.folder / name).is_file():
                store.client.log_artifact(self._parent, str(sweep.folder / name))
        expected = expectations_tag(check_expectations(sweep), with_labels=True)
        store.update_tag(self._parent, self._parent_tags, EXPECTATIONS, expected)
        counts = Counter(point.status for point in sweep.points)
        store.client.set_tag(self._parent, "points", ", ".join(f"{n} {name}" for name, n in counts.items()))
        # What is only logged again lasts no longer than it did.
        news = any((point.ended or 0.0) > self._ended for point in sweep.points)
        store.end(self._parent, status, time.time() if news or not self._ended else self._ended)

    def _log_answer(self, store: MlflowStore, answer: SweepAnswer) -> None:
        """Log what the parent run says of the whole sweep: description, best and spread, prompts."""
        self._goal, self._metrics = answer.goal, answer.key_metrics
        store.update_tag(self._parent, self._parent_tags, NOTE, answer.note)
        goal = metric_key(self._goal) if self._goal else ""
        store.update_tag(self._parent, self._parent_tags, "goal", goal)
        known, metrics = self._parent_metrics, answer.parent_metrics
        changed = [(key, value, 0) for key, value in metrics.items() if known.get(key) != value]
        store.log(self._parent, {}, changed, time.time())
        store.client.log_inputs(self._parent, datasets=[dataset_input(one) for one in answer.prompt_sets])


def open_tracker(sweep: Sweep) -> Tracker:
    """Return the tracker that the sweep's config asks for; open it with `Tracker.open`.

    Raises:
        ConfigError: MLflow cannot log to `tracking.uri`.
    """
    if not sweep.tracking.get("enabled", True):
        return Tracker()
    return MlflowTracker(tracking_uri(sweep.tracking))


def not_logged(address: str, reason: str) -> str:
    """Return the warning that MLflow gets no more of a sweep."""
    cure = "the results are kept, `harness sync` logs them later"
    return f"logging to MLflow at {address} failed ({reason}); {cure}"


def times_of(point: SweepPoint, stored: StoredPoint | None) -> tuple[float, float]:
    """Return when the point started and ended, in seconds since the epoch; when it was stored if reused."""
    if point.started is not None and point.ended is not None:
        return point.started, point.ended
    # Not generations.parquet, which metrics write again.
    at = stored.path("tokens.parquet").stat().st_mtime if stored else time.time()
    return at, at


def _gather(folder: Path, sweep: Sweep, point: SweepPoint, stored: StoredPoint | None) -> str:
    """Copy a point's artifacts into a folder, without subfolders, so that links of the UI can select them.

    Returns:
        What generations.json leaves out; empty when it has all samples.
    """
    if stored is None:
        if point.traceback:
            (folder / "traceback.txt").write_text(point.traceback, encoding="utf-8", errors="replace")
        return ""
    for name in point_files():
        if stored.has(name):
            shutil.copyfile(stored.path(name), folder / name)
    shutil.copyfile(tokens_page(sweep, point, stored), folder / "tokens.html")
    table, note = generations_json(stored)
    (folder / "generations.json").write_text(table, encoding="utf-8")
    return note
