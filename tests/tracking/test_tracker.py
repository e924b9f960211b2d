"""Runs in MLflow: one per sweep and one per point, each exactly once, whatever is interrupted."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from fake_points import PROMPTS, make_sweep, write_point
from forked import Forked
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow_runs import artifacts, log_sweep, runs

from harness.errors import ConfigError
from harness.store.stored_point import StoredPoint
from harness.tracking import open_tracker
from harness.tracking.tracker import Tracker


def test_a_parent_run_and_a_run_per_point(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, failed="top_p", tokens=4)
    log_sweep(sweep, "FAILED")
    (parent,) = runs(store, "sweep")
    assert parent.info.run_name == "demo"
    assert parent.info.status == "FAILED"
    assert parent.data.tags["points"] == "4 done, 2 failed"
    assert parent.data.params["model"] == "fable_tiny, fable_small"
    children = {run.data.tags["label"]: run for run in runs(store, "generation")}
    assert set(children) == {point.label for point in sweep.points}
    names = {run.info.run_name for run in children.values()}
    assert {"greedy · fable_tiny/fp32", "fable_small/top_p · fp32"} & names  # what varies comes first
    for point in sweep.points:
        run = children[point.label]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.start_time == round(1000 * point.started)
        assert run.info.end_time == round(1000 * point.ended)
        assert run.info.status == ("FAILED" if point.status == "failed" else "FINISHED")


def test_a_run_has_the_params_metrics_and_files_of_its_point(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("top_p",), tokens=4)
    log_sweep(sweep)
    (run,) = runs(store, "generation")
    folder = outputs / "points" / sweep.points[0].point_id
    stored_metrics = json.loads((folder / "metrics.json").read_text())
    metrics = {key: value for key, value in run.data.metrics.items() if not key.startswith("prompt/")}
    assert metrics == pytest.approx(stored_metrics["metrics"], rel=5e-3)  # rounded as tables show them
    client = MlflowClient(store)
    assert run.data.params["decoding.top_p"] == "0.9"
    files = {file.path: artifacts(run) / file.path for file in client.list_artifacts(run.info.run_id)}
    wanted = {"generations.parquet", "tokens.parquet", "timing.parquet", "metrics.json", "config.yaml"}
    assert set(files) == wanted | {"environment.json", "tokens.html", "generations.json"}
    for name in wanted:
        assert files[name].read_bytes() == (folder / name).read_bytes()
    # How the UI and MLflow's own load_table recognise and read a table.
    tables = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert tables == [{"path": "generations.json", "type": "table"}]
    table = pandas.read_json(files["generations.json"], orient="split")
    assert list(table["prompt_id"]) == list(PROMPTS)
    assert table.columns[0] == "prompt_id"
    assert list(table["output"]) == [row["output"] for row in StoredPoint(folder).rows("generations")]


def test_a_failed_point_has_its_error_and_traceback(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, models=("m",), failed="top_p", tokens=4).with_point(1, point_id="")
    log_sweep(sweep, "FAILED")
    run = next(run for run in runs(store, "generation") if run.info.status == "FAILED")
    assert run.data.tags["error"] == sweep.points[1].error
    assert (artifacts(run) / "traceback.txt").read_text() == sweep.points[1].traceback


def test_logging_again_changes_nothing(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, failed="top_p", tokens=4)
    log_sweep(sweep, "FAILED")
    before = {run.info.run_id for run in runs(store, "generation")}
    again = log_sweep(sweep, "FAILED")
    assert again.written == 0
    assert {run.info.run_id for run in runs(store, "generation")} == before
    assert len(runs(store, "sweep")) == 1
    finished = [run for run in runs(store, "generation") if run.info.status == "FINISHED"]
    tables = [json.loads((artifacts(run) / "generations.json").read_text()) for run in finished]
    assert {len(table["data"]) for table in tables} == {len(PROMPTS)}


def test_a_point_that_was_run_anew_replaces_its_run(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4)
    log_sweep(sweep)
    write_point(outputs, sweep.points[0].point_id, PROMPTS, tokens=9)
    assert log_sweep(sweep).written == 1
    labels = [run.data.tags["label"] for run in runs(store, "generation")]
    assert sorted(labels) == sorted(point.label for point in sweep.points)


def test_a_failed_point_that_works_now_replaces_its_run(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, models=("m",), failed="top_p", tokens=4)
    log_sweep(sweep, "FAILED")
    write_point(outputs, sweep.points[1].point_id, PROMPTS, tokens=4)
    log_sweep(sweep.with_point(1, status="done", error=None, traceback=None))
    assert {run.info.status for run in runs(store, "generation")} == {"FINISHED"}
    assert runs(store, "sweep")[0].info.status == "FINISHED"
    assert len(runs(store, "generation")) == 3


def test_a_kill_in_the_middle_leaves_nothing_running(
    outputs: Path, store: str, forked: Callable[..., Forked]
) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from harness.store.sweeps import load_sweep\n"
        "from harness.tracking import open_tracker\n"
        "from harness.tracking import tracker as module\n"
        "sweep = load_sweep(Path(sys.argv[1]))\n"
        "tracker = open_tracker(sweep)\n"
        "tracker.open(sweep)\n"
        "tracker.log_point(sweep, 0)\n"
        "module._gather = lambda *args: os.kill(os.getpid(), signal.SIGKILL)\n"
        "tracker.log_point(sweep, 1)\n"
    )
    killed = forked(str(sweep.folder), code=code)
    assert killed.wait() == -signal.SIGKILL, killed.stderr
    assert {run.info.status for run in runs(store, "sweep")} == {"RUNNING"}
    other = make_sweep(outputs, models=("n",), tokens=4)
    log_sweep(other)
    statuses = {run.data.tags["sweep_id"]: run.info.status for run in runs(store, "sweep")}
    assert statuses == {sweep.sweep_id: "KILLED", other.sweep_id: "FINISHED"}
    assert all(run.info.status == "FINISHED" for run in runs(store, "generation"))
    assert log_sweep(sweep).written == 2
    labels = sorted(run.data.tags["label"] for run in runs(store, "generation"))
    assert labels == sorted(point.label for point in (*sweep.points, *other.points))
    assert len(runs(store, "sweep")) == 2


def test_a_point_of_two_sweeps_has_a_run_in_both(outputs: Path, store: str) -> None:
    full = make_sweep(outputs, models=("m",), tokens=4)
    subset = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4)
    log_sweep(full)
    log_sweep(subset.with_point(0, status="reused", started=None, ended=None))
    assert len(runs(store, "generation")) == 4
    parents = {run.info.run_id for run in runs(store, "sweep")}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs(store, "generation")} == parents
    reused = next(run for run in runs(store, "generation") if run.data.tags["status"] == "reused")
    stored = outputs / "points" / subset.points[0].point_id / "tokens.parquet"
    assert reused.info.start_time == round(1000 * stored.stat().st_mtime)


def test_experiments_are_separate_and_may_have_any_name(outputs: Path, store: str) -> None:
    for name in ("one", "a/b ü'"):
        tracking = {"enabled": True, "uri": None, "experiment": name, "traces": False}
        log_sweep(make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4, tracking=tracking))
        (run,) = runs(store, "generation", name)
        assert (artifacts(run) / "tokens.html").is_file()
    experiment = MlflowClient(store).get_experiment_by_name("one")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.artifact_location == (outputs / "mlartifacts" / "one").as_uri()


def test_off_logs_nothing(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4, tracking={"enabled": False})
    tracker = open_tracker(sweep)
    assert type(tracker) is Tracker
    tracker.open(sweep)
    tracker.log_point(sweep, 0)
    tracker.close(sweep, "FINISHED")
    assert tracker.links(sweep) == ()
    assert MlflowClient(store).get_experiment_by_name("harness") is None


def test_a_server_that_does_not_answer_is_one_warning(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    sweep = make_sweep(
        outputs, models=("m",), tokens=4, tracking={"enabled": True, "uri": "http://127.0.0.1:9"}
    )
    tracker = open_tracker(sweep)
    with caplog.at_level(logging.WARNING, logger="harness"):
        tracker.open(sweep)
        tracker.log_point(sweep, 0)
        tracker.close(sweep, "FINISHED")
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("harness")]
    assert len(messages) == 1
    assert "http://127.0.0.1:9" in messages[0]
    assert "harness sync" in messages[0]
    assert "\n" not in messages[0]
    assert tracker.links(sweep) == ()


def test_a_folder_as_uri_is_a_mistake(outputs: Path) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4, tracking={"enabled": True, "uri": "mlruns"})
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        open_tracker(sweep)


def test_replaced_runs_are_deleted(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4)
    log_sweep(sweep)
    write_point(outputs, sweep.points[0].point_id, PROMPTS, tokens=5)
    log_sweep(sweep)
    experiment = runs(store, "sweep")[0].info.experiment_id
    deleted = MlflowClient(store).search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert [run.data.tags["label"] for run in deleted] == [sweep.points[0].label]
