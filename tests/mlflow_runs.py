"""What an MLflow store holds, asked of MLflow itself."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run


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
