"""`harness sync` logs what MLflow lacks, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_points import make_sweep
from mlflow import MlflowClient

from harness.errors import HarnessError
from harness.tracking.sync import sync


def test_sync_logs_what_is_missing_and_then_nothing(
    outputs: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(outputs, models=("m",), failed="top_p", tokens=4, tracking={"enabled": False})
    assert sync(None) == 0
    printed = capsys.readouterr().out
    assert f"3 of 3 points logged to {store}" in printed
    assert f"viewStateShareKey=harness-{sweep.sweep_id}" in printed
    assert sync(sweep.folder.name) == 0
    assert "0 of 3 points logged" in capsys.readouterr().out
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("harness").experiment_id
    statuses = [run.info.status for run in client.search_runs([experiment], "tags.kind = 'generation'")]
    assert sorted(statuses) == ["FAILED", "FINISHED", "FINISHED"]
    (parent,) = client.search_runs([experiment], "tags.kind = 'sweep'")
    assert parent.info.status == "FAILED"
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"plan.json", "summary.csv", "comparison.csv", "compare.html"}


def test_sync_names_points_that_are_no_longer_stored(
    outputs: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4).with_point(1, point_id="gone")
    sweep.save()
    assert sync(None) == 1
    assert "m/fp32/top_p: no longer in the store" in capsys.readouterr().out
    client = MlflowClient(store)
    assert len(client.search_runs(["1"], "tags.kind = 'generation'")) == 2


def test_a_server_that_does_not_answer_is_one_line(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    make_sweep(outputs, models=("m",), tokens=4, tracking={"enabled": True, "uri": "http://127.0.0.1:9"})
    with pytest.raises(
        HarnessError, match=r"tracking.uri: logging to MLflow at http://127.0.0.1:9"
    ) as caught:
        sync(None)
    assert "\n" not in str(caught.value)
