"""Tracking in a process of its own: the same runs, warnings shown here, nothing left when either one dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_points import make_sweep
from mlflow_runs import log_sweep, runs, statuses
from swept_sweep import swept_comparison, swept_sweep

from harness.analysis.point_results import point_results
from harness.report.write import Written
from harness.store.sweeps import Sweep
from harness.tracking import Tracker, begin_tracking
from harness.tracking.process_tracker import ProcessTracker, TrackingProcess
from harness.tracking.sweep_answer import SweepAnswer, answer_of
from harness.tracking.tracking_lines import (
    changed_points,
    line_of,
    read_lines,
    sweep_from_json,
    sweep_json,
    with_points,
)


@pytest.fixture
def process() -> Iterator[TrackingProcess]:
    """A tracking process, ended with the test."""
    found = TrackingProcess()
    yield found
    found.end()


def pid_of(process: TrackingProcess) -> int:
    return process._process.pid


def test_a_sweep_survives_the_pipe(outputs: Path) -> None:
    sweep = make_sweep(outputs, failed="top_p", tokens=4)
    sweep = replace(sweep, tracking={"enabled": True, "uri": "http://me:secret@host"}, expect=({"a": 1},))
    sent = BytesIO(line_of("open", sweep=sweep_json(sweep)))
    (line,) = read_lines(sent)
    assert sweep_from_json(line["sweep"]) == sweep, "with its password: MLflow needs it"
    later = sweep.with_point(1, status="done", warnings=("one", "two"), ended=3.5)
    assert changed_points(sweep, later).keys() == {"1"}
    assert with_points(sweep, changed_points(sweep, later)) == later


def test_a_line_that_was_cut_off_is_left_out() -> None:
    assert list(read_lines(BytesIO(b'{"kind": "warning"}\n{"kin'))) == [{"kind": "warning"}]


def test_an_answer_survives_the_pipe(outputs: Path) -> None:
    points = point_results(swept_sweep(outputs, keys={"decoding.temperature": (0.5, 0.7)}))
    answer = answer_of(Written(points, swept_comparison(points)), outputs)
    assert answer.goal
    assert answer.prompt_sets
    again = SweepAnswer.from_json(answer.as_json())
    same = {"bounds": (0.0, 0.0), "binary": False}  # which MLflow does not ask for
    assert [replace(m, **same) for m in again.key_metrics] == [replace(m, **same) for m in answer.key_metrics]
    assert replace(again, key_metrics=()) == replace(answer, key_metrics=())


def everything(run: Any) -> tuple[Any, ...]:
    """What a run has that does not depend on when and by whom it was logged."""
    tags = {k: v for k, v in run.data.tags.items() if k not in ("mlflow.parentRunId", "pid")}
    datasets = [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs]
    ended = run.info.end_time if tags["kind"] == "generation" else None
    return run.info.status, ended, tags, run.data.params, run.data.metrics, datasets


def test_it_logs_what_a_tracker_in_this_process_logs(
    outputs: Path, store: str, process: TrackingProcess
) -> None:
    sweep = swept_sweep(outputs, keys={"decoding.temperature": (0.5, 0.7)})
    points = point_results(sweep)
    written = Written(points, swept_comparison(points))

    def logged(tracker: Tracker, tracked: Sweep) -> list[tuple[Any, ...]]:
        tracker.open(tracked)
        for index in range(len(tracked.points)):
            tracker.log_point(tracked, index)
        tracker.close(tracked, "FINISHED", written)
        experiment = str(tracked.tracking["experiment"])
        found = [*runs(store, "sweep", experiment), *runs(store, "generation", experiment)]
        return sorted(map(everything, found), key=repr)

    def in_experiment(name: str) -> Sweep:
        return replace(sweep, tracking={**sweep.tracking, "enabled": True, "experiment": name})

    with begin_tracking(own_process=True) as tracker_of:  # MLflow is imported here: no process
        here = tracker_of(in_experiment("here"))
        expected = logged(here, in_experiment("here"))
    tracker = ProcessTracker(store, process)
    assert logged(tracker, in_experiment("there")) == expected
    assert len(expected) == 1 + len(sweep.points)
    urls = [link.url.replace("experiments/2", "experiments/1") for link in tracker.links(sweep)]
    names = [link.name for link in here.links(sweep)]
    assert [link.name for link in tracker.links(sweep)] == names
    assert urls[0] == here.links(sweep)[0].url
    assert not psutil.pid_exists(pid_of(process))


def test_mlflow_that_does_not_answer_is_one_warning(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    sweep = make_sweep(outputs, models=("m",), tokens=4)
    process = TrackingProcess()
    tracker = ProcessTracker("http://127.0.0.1:9", process)
    with caplog.at_level(logging.WARNING, logger="harness"):
        tracker.open(sweep)
        tracker.log_point(sweep, 0)
        tracker.close(sweep, "FINISHED")
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("harness")]
    assert "http://127.0.0.1:9" in message
    assert "harness sync" in message
    assert tracker.links(sweep) == ()
    process.end()


def test_a_process_that_is_killed_is_one_warning(
    outputs: Path, store: str, process: TrackingProcess, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4)
    tracker = ProcessTracker(store, process)
    tracker.open(sweep)
    os.kill(pid_of(process), signal.SIGKILL)
    process._process.wait(10)
    with caplog.at_level(logging.WARNING, logger="harness"):
        for index in range(len(sweep.points)):
            tracker.log_point(sweep, index)
        tracker.close(sweep, "FINISHED")
    (message,) = [record.getMessage() for record in caplog.records]
    assert "its process ended with SIGKILL" in message
    assert "harness sync" in message
    assert tracker.links(sweep) == ()


def test_an_interrupt_leaves_queued_points_to_the_next_run(
    outputs: Path, store: str, process: TrackingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4)
    honest, asked = process.result, []

    def interrupted() -> dict[str, Any]:
        asked.append(1)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return honest()

    monkeypatch.setattr(process, "result", interrupted)
    tracker = ProcessTracker(store, process)
    # Sent before MLflow is imported there, so that every point is still queued.
    tracker.open(sweep)
    for index in range(len(sweep.points)):
        tracker.log_point(sweep, index)
    with pytest.raises(KeyboardInterrupt):
        tracker.close(sweep, "FINISHED")
    assert statuses(store, "sweep") == {sweep.name: "KILLED"}
    assert statuses(store, "generation") == {}
    log_sweep(sweep)
    assert set(statuses(store, "generation").values()) == {"FINISHED"}
    assert statuses(store, "sweep") == {sweep.name: "FINISHED"}


HEAD = """
import os, signal, sys
from pathlib import Path
from harness.store.sweeps import load_sweep
from harness.tracking.process_tracker import ProcessTracker, TrackingProcess
sweep = load_sweep(Path(sys.argv[1]))
process = TrackingProcess()
print(process._process.pid, flush=True)
tracker = ProcessTracker(sys.argv[2], process)
tracker.open(sweep)
for index in range(len(sweep.points)):
    tracker.log_point(sweep, index)
sys.stdin.read(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def until(reached: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not reached():
        assert time.monotonic() - started < 60
        time.sleep(0.01)


def test_it_ends_with_a_sweep_that_is_killed_and_the_next_one_cleans_up(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4)
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, str(sweep.folder), store], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with head:
        assert head.stdin is not None
        assert head.stdout is not None
        tracking = psutil.Process(int(head.stdout.readline()))
        from mlflow import MlflowClient

        until(lambda: MlflowClient(store).get_experiment_by_name("harness") is not None)
        until(lambda: bool(runs(store, "sweep")))
        (parent,) = runs(store, "sweep")
        assert parent.data.tags["pid"] == str(head.pid), "the sweep's process owns the run"
        head.stdin.write(b"x")
        head.stdin.flush()
        head.wait(30)
        tracking.wait(10)
    assert statuses(store, "sweep") == {sweep.name: "RUNNING"}
    log_sweep(sweep)
    assert statuses(store, "sweep") == {sweep.name: "FINISHED"}
    assert set(statuses(store, "generation").values()) == {"FINISHED"}
    assert len(runs(store, "generation")) == len(sweep.points)


def test_a_plan_that_fails_leaves_no_process() -> None:
    started = TrackingProcess()
    started.end()
    assert not psutil.pid_exists(pid_of(started))
