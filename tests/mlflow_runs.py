"""Log a sweep to MLflow, and query MLflow itself for what it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Feedback, Run, Trace
from mlflow.tracing.client import TracingClient

from harness.store.sweeps import Sweep
from harness.tracking import open_tracker
from harness.tracking.tracker import MlflowTracker

TRACED = {"enabled": True, "uri": None, "experiment": "harness", "traces": True}
"""The tracking config of a sweep with traces."""


def log_sweep(sweep: Sweep, status: str = "FINISHED") -> MlflowTracker:
    """Log a whole sweep, as a run does."""
    tracker = open_tracker(sweep)
    assert isinstance(tracker, MlflowTracker)
    tracker.strict = True
    tracker.open(sweep)
    for index in range(len(sweep.points)):
        tracker.log_point(sweep, index)
    tracker.close(sweep, status)
    return tracker


def runs(store: str, kind: str, experiment: str = "harness") -> list[Run]:
    """Return the runs of a kind (`sweep`, `generation`) in an experiment, which must exist."""
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client.search_runs([found.experiment_id], f"tags.kind = '{kind}'")


def statuses(store: str, kind: str) -> dict[str, str]:
    """Return the status of each run of a kind, by its label, of a sweep by its name."""
    return {run.data.tags.get("label", run.data.tags["sweep"]): run.info.status for run in runs(store, kind)}


def artifacts(run: Run) -> Path:
    """Return the folder of a run's artifacts."""
    return Path(run.info.artifact_uri.removeprefix("file://"))


def traces(store: str, filter_string: str | None = None) -> list[Trace]:
    """Return the traces in the sweeps' experiment that match a search."""
    experiment = runs(store, "sweep")[0].info.experiment_id
    return MlflowClient(store).search_traces(
        locations=[experiment], filter_string=filter_string, max_results=500
    )


def give_feedback(store: str, trace_id: str, name: str, value: Any, **more: Any) -> str:
    """Attach feedback to a trace, as the UI does; return its id."""
    source = AssessmentSource("HUMAN", "mia@example.com")
    feedback = Feedback(name=name, value=value, trace_id=trace_id, source=source, **more)
    return TracingClient(store).store.create_assessment(feedback).assessment_id
