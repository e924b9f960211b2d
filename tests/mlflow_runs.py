"""What an MLflow store is told and holds, asked of MLflow itself."""

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
"""The tracking of a sweep that is tracked with traces."""


def tell(sweep: Sweep, status: str = "FINISHED") -> MlflowTracker:
    """Run the tracker over a whole sweep, as a run does."""
    tracker = open_tracker(sweep)
    assert isinstance(tracker, MlflowTracker)
    tracker.strict = True
    tracker.open(sweep)
    for index in range(len(sweep.points)):
        tracker.log_point(sweep, index)
    tracker.close(sweep, status)
    return tracker


def runs(store: str, kind: str, experiment: str = "harness") -> list[Run]:
    """The runs of a kind (`sweep`, `generation`) in an experiment that must be there."""
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client.search_runs([found.experiment_id], f"tags.kind = '{kind}'")


def statuses(store: str, kind: str) -> dict[str, str]:
    """Name and status of each run of a kind."""
    return {run.info.run_name: run.info.status for run in runs(store, kind)}


def artifacts(run: Run) -> Path:
    """The folder of a run's artifacts."""
    return Path(run.info.artifact_uri.removeprefix("file://"))


def traces(store: str, said: str | None = None) -> list[Trace]:
    """The traces beside the sweeps that answer a search."""
    experiment = runs(store, "sweep")[0].info.experiment_id
    return MlflowClient(store).search_traces(locations=[experiment], filter_string=said, max_results=500)


def say(store: str, trace_id: str, name: str, value: Any, **said: Any) -> str:
    """Feedback on a trace, as the UI gives it; its id."""
    source = AssessmentSource("HUMAN", "mia@example.com")
    feedback = Feedback(name=name, value=value, trace_id=trace_id, source=source, **said)
    return TracingClient(store).store.create_assessment(feedback).assessment_id
