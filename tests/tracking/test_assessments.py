"""Feedback given in MLflow is copied to the sweep's folder, and stays there when MLflow is unreachable."""

from __future__ import annotations

import csv
import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import make_sweep, write_point
from mlflow.entities import AssessmentSource, Expectation, Feedback
from mlflow.tracing.client import TracingClient
from mlflow_runs import TRACED, give_feedback, log_sweep, traces

from harness.cli.main import main
from harness.store.feedback import feedback_means, known_feedback
from harness.store.sweeps import Sweep
from harness.tracking.assessments import read_feedback


@pytest.fixture
def sweep(outputs: Path, store: str) -> Sweep:
    """A sweep of two points, logged with traces."""
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy", "top_p"), tokens=4, tracking=TRACED)
    log_sweep(sweep)
    return sweep


def trace_of(store: str, decoding: str, prompt_id: str) -> str:
    (trace,) = traces(store, f"tags.decoding = '{decoding}' and tags.prompt_id = '{prompt_id}'")
    return trace.info.trace_id


def test_feedback_is_read_in_the_order_of_the_sweep(sweep: Sweep, store: str) -> None:
    assert read_feedback(sweep) == ()
    assert not (sweep.folder / "feedback.json").exists(), "there is no feedback"
    late = trace_of(store, "top_p", "seed-2")
    give_feedback(store, late, "quality", 2, rationale="dull <b>and</b> long")
    give_feedback(store, late, "fine", False)
    give_feedback(store, late, "mlflow.notes", "written into the box of notes")
    give_feedback(store, trace_of(store, "greedy", "chat"), "tone", "dry")
    judge = AssessmentSource("LLM_JUDGE", "some-judge")
    judged = Feedback(name="quality", value=4.5, trace_id=trace_of(store, "greedy", "chat"), source=judge)
    TracingClient(store).store.create_assessment(judged)
    feedback = read_feedback(sweep)
    one = {"label": "m/fp32/top_p", "prompt_id": "seed-2", "sample": 0}
    other = {"label": "m/fp32/greedy", "prompt_id": "chat", "sample": 0}
    mia = {"source": "mia@example.com"}
    assert list(feedback) == [
        {**other, "name": "tone", "value": "dry", "comment": "", **mia},
        {**other, "name": "quality", "value": 4.5, "comment": "", "source": "some-judge (LLM_JUDGE)"},
        {**one, "name": "quality", "value": 2, "comment": "dull <b>and</b> long", **mia},
        {**one, "name": "fine", "value": False, "comment": "", **mia},
        {**one, "name": "notes", "value": None, "comment": "written into the box of notes", **mia},
    ]
    assert json.loads((sweep.folder / "feedback.json").read_text()) == list(feedback)
    assert known_feedback(sweep.folder) == feedback


def test_deleted_and_replaced_feedback_is_left_out(sweep: Sweep, store: str) -> None:
    trace_id = trace_of(store, "greedy", "chat")
    first = give_feedback(store, trace_id, "quality", 1)
    give_feedback(store, trace_id, "quality", 5, overrides=first)
    wanted = Expectation(name="wanted", value="another text", trace_id=trace_id)
    TracingClient(store).store.create_assessment(wanted)
    assert [entry["value"] for entry in read_feedback(sweep)] == [5]
    (trace,) = traces(store, "tags.decoding = 'greedy' and tags.prompt_id = 'chat'")
    for assessment in trace.info.assessments:
        TracingClient(store).store.delete_assessment(trace_id, assessment.assessment_id)
    assert read_feedback(sweep) == ()
    assert known_feedback(sweep.folder) == ()


def test_feedback_on_samples_that_were_replaced_is_left_out(sweep: Sweep, outputs: Path, store: str) -> None:
    give_feedback(store, trace_of(store, "greedy", "chat"), "quality", 1)
    assert len(read_feedback(sweep)) == 1
    write_point(outputs, sweep.points[0].point_id, {"chat": "another"}, tokens=9)
    log_sweep(sweep)
    assert read_feedback(sweep) == ()


def test_an_unreachable_store_keeps_what_was_read_last(
    sweep: Sweep, store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    give_feedback(store, trace_of(store, "greedy", "chat"), "quality", 1)
    feedback = read_feedback(sweep)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = replace(sweep, tracking={**TRACED, "uri": "http://127.0.0.1:9"})
    with caplog.at_level(logging.WARNING, logger="harness"):
        assert read_feedback(away) == feedback
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("harness")]
    assert "the feedback read last is shown" in line
    assert "\n" not in line
    elsewhere = sweep.folder / "none.db"
    assert read_feedback(replace(sweep, tracking={**TRACED, "uri": f"sqlite:///{elsewhere}"})) == feedback
    assert not elsewhere.exists()
    assert read_feedback(replace(sweep, tracking={**TRACED, "experiment": "another"})) == feedback


@pytest.mark.parametrize("tracking", [{"traces": False}, {"enabled": False}])
def test_mlflow_is_queried_only_for_sweeps_with_traces(
    outputs: Path, tracking: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4, tracking={**TRACED, **tracking})
    monkeypatch.setattr("harness.tracking.assessments._read", lambda *_: pytest.fail("asked"))
    assert read_feedback(sweep) == ()


def test_means_are_of_numbers_and_booleans() -> None:
    entries = [("a", "q", 4), ("a", "q", 1.5), ("a", "ok", True), ("a", "ok", False), ("b", "q", 3)]
    entries += [("a", "tone", "dry"), ("b", "list", [1]), ("b", "bad", float("nan")), ("b", "n", None)]
    means = feedback_means([{"label": a, "name": n, "value": v} for a, n, v in entries])
    assert means == {"a": {"feedback/q": 2.75, "feedback/ok": 0.5}, "b": {"feedback/q": 3.0}}


def test_report_adds_feedback_to_the_table(
    sweep: Sweep, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    give_feedback(store, trace_of(store, "greedy", "chat"), "quality", 4)
    give_feedback(store, trace_of(store, "greedy", "email"), "quality", 1)
    assert main(["report", sweep.folder.name]) == 0
    rows = list(csv.DictReader(io.StringIO((sweep.folder / "summary.csv").read_text())))
    assert [row["feedback/quality"] for row in rows] == ["2.5", ""]
    assert len(known_feedback(sweep.folder)) == 2
