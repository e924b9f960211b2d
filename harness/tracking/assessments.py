"""What people said of texts in MLflow's UI, brought home: assessments of traces, to feedback.json."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.point_results import stored_of
from harness.store.feedback import keep_feedback, known_feedback
from harness.store.files import outputs_folder
from harness.store.sweeps import Sweep, find_sweep
from harness.tracking.traces import find_traces, identity_of, trace_id_of
from harness.tracking.tracker import one_line
from harness.tracking.uri import SQLITE, prepare_environment, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Assessment

log = logging.getLogger(__name__)

NOTES = "mlflow.notes"
"""Under this name the UI keeps what is written into a trace's box of notes: a comment without a rating."""

Text = tuple[str, str, int]
"""Label of the point, prompt id, sample."""


def bring_feedback(name: str | None) -> None:
    """Read the feedback of a sweep, the last one when none is named, for whoever reports on it.

    Raises:
        ConfigError: there is no such sweep.
    """
    read_feedback(find_sweep(outputs_folder(), name))


def read_feedback(sweep: Sweep) -> tuple[dict[str, Any], ...]:
    """What people said of the sweep's texts as they are now, also written to its feedback.json.

    MLflow is asked only where the sweep was tracked with traces. When it cannot be reached, or knows nothing
    of the sweep, what was last read stays.

    Returns:
        As `harness.store.feedback.known_feedback`, in the order of the points and texts.
    """
    known = known_feedback(sweep.folder)
    tracking = sweep.tracking
    if not tracking.get("enabled", True) or not tracking.get("traces"):
        return known
    try:
        found = _read(sweep, tracking_uri(tracking))
    except Exception as error:
        log.warning(
            "MLflow could not be asked for feedback (%s); what was last read is shown", one_line(error)
        )
        return known
    if found is None:
        return known
    if found or known:
        keep_feedback(sweep.folder, found)
    return found


def _read(sweep: Sweep, uri: str) -> tuple[dict[str, Any], ...] | None:
    """The feedback that MLflow holds; None when it holds no trace of the sweep."""
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        return None
    prepare_environment()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(str(sweep.tracking.get("experiment") or "harness"))
    if experiment is None:
        return None
    texts = _texts(sweep, experiment.experiment_id)
    places = {text: place for place, text in enumerate(texts.values())}
    said: list[tuple[int, dict[str, Any]]] = []
    seen = False
    for info in find_traces(client, experiment.experiment_id, f"tags.sweep_id = '{sweep.sweep_id}'"):
        seen = True
        text = texts.get(info.trace_id)
        if text is not None:
            said += [(places[text], told) for told in _told(text, info.assessments)]
    return tuple(told for _, told in sorted(said, key=lambda one: one[0])) if seen else None


def _texts(sweep: Sweep, experiment_id: str) -> dict[str, Text]:
    """By the id of its trace, every text that the sweep has now."""
    texts: dict[str, Text] = {}
    for point in sweep.points:
        stored = stored_of(sweep, point)
        if stored is None:
            continue
        for rows in stored.row_batches("generations", 1000, ("prompt_id", "sample", "output")):
            for row in rows:
                identity = identity_of(experiment_id, sweep, point, row)
                texts[trace_id_of(identity)] = (point.label, row["prompt_id"], row["sample"])
    return texts


def _told(text: Text, assessments: list[Assessment]) -> Iterator[dict[str, Any]]:
    """Feedback among a trace's assessments, oldest first; what was taken back or failed is left out."""
    label, prompt_id, sample = text
    for one in sorted(assessments, key=lambda a: (a.create_time_ms or 0, a.assessment_id or "")):
        if one.feedback is None or one.valid is False or one.feedback.error is not None:
            continue
        value: Any = one.feedback.value
        comment = one.rationale or ""
        if one.name == NOTES:
            value, comment = None, str(value)
        kind, who = one.source.source_type, one.source.source_id or "default"
        yield {
            "label": label,
            "prompt_id": prompt_id,
            "sample": sample,
            "name": one.name.removeprefix("mlflow."),
            "value": value,
            "comment": comment,
            "source": who if kind == "HUMAN" else f"{who} ({kind})",
        }
