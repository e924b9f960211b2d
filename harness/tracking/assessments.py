"""Feedback given in MLflow's UI, read back: assessments of traces, written to the sweep's feedback.json."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.analysis.point_results import stored_of
from harness.store.feedback import keep_feedback, known_feedback
from harness.store.files import outputs_folder
from harness.store.mlflow_uri import sqlite_path, tracking_uri
from harness.store.sweeps import Sweep, find_sweep
from harness.tracking.database import opened, reason_of
from harness.tracking.scores import is_ours
from harness.tracking.traces import find_traces, identity_of, trace_id_of

if TYPE_CHECKING:
    from mlflow.entities import Assessment

log = logging.getLogger(__name__)

NOTES = "mlflow.notes"
"""The name under which the UI stores the note of a trace: a comment without a rating."""


def update_feedback(name: str | None) -> None:
    """Update feedback.json of a sweep, the last one when none is named."""
    read_feedback(find_sweep(outputs_folder(), name))


def read_feedback(sweep: Sweep) -> tuple[dict[str, Any], ...]:
    """Return the feedback on the sweep's present samples, and write it to its feedback.json.

    MLflow is asked only where the sweep was tracked with traces. When it cannot be reached, or does not know
    the sweep, the feedback that was read last is returned and stays.

    Returns:
        As `harness.store.feedback.known_feedback`, in the order of the points and samples.
    """
    known = known_feedback(sweep.folder)
    if not sweep.tracking.get("enabled", True) or not sweep.tracking.get("traces"):
        return known
    try:
        found = _read(sweep, tracking_uri(sweep.tracking))
    except Exception as error:
        log.warning(
            "feedback could not be read from MLflow (%s); the feedback read last is shown", reason_of(error)
        )
        return known
    if found is None:
        return known
    if found or known:
        keep_feedback(sweep.folder, found)
    return found


def _read(sweep: Sweep, uri: str) -> tuple[dict[str, Any], ...] | None:
    """Return the feedback in MLflow; None when it has no trace of the sweep."""
    path = sqlite_path(uri)
    if path and not path.is_file():
        return None
    with opened(uri) as client:
        pass
    experiment = client.get_experiment_by_name(str(sweep.tracking.get("experiment") or "harness"))
    if experiment is None:
        return None
    experiment_id = experiment.experiment_id
    traces = find_traces(client, experiment_id, f"tags.sweep_id = '{sweep.sweep_id}'")
    assessments = {info.trace_id: info.assessments for info in traces}
    if not assessments:
        return None
    found: list[dict[str, Any]] = []
    for point in sweep.points:
        stored = stored_of(sweep, point)
        if stored is None:
            continue
        for rows in stored.row_batches("generations", 1000, ("prompt_id", "sample", "output")):
            for row in rows:
                trace_id = trace_id_of(identity_of(experiment_id, sweep, point, row))
                sample = {"label": point.label, "prompt_id": row["prompt_id"], "sample": row["sample"]}
                found += (sample | entry for entry in _feedback(assessments.get(trace_id, [])))
    return tuple(found)


def _feedback(assessments: list[Assessment]) -> Iterator[dict[str, Any]]:
    """Yield the feedback among a trace's assessments, oldest first, without what was replaced or failed."""
    for one in sorted(assessments, key=lambda a: (a.create_time_ms or 0, a.assessment_id or "")):
        if is_ours(one) or one.feedback is None or one.valid is False or one.feedback.error is not None:
            continue
        value: Any = one.feedback.value
        comment = one.rationale or ""
        if one.name == NOTES:
            value, comment = None, str(value)
        kind, source = one.source.source_type, one.source.source_id or "default"
        yield {
            "name": one.name.removeprefix("mlflow."),
            "value": value,
            "comment": comment,
            "source": source if kind == "HUMAN" else f"{source} ({kind})",
        }
