"""What people say in MLflow comes into the sweep's folder, and stays there when MLflow is away."""

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
from mlflow_runs import TRACED, say, tell, traces

from harness.cli.main import main
from harness.store.feedback import feedback_means, known_feedback
from harness.store.sweeps import Sweep
from harness.tracking.assessments import read_feedback


@pytest.fixture
def sweep(outputs: Path, store: str) -> Sweep:
    """A sweep of two points, told with traces."""
    made = make_sweep(outputs, models=("m",), decodings=("greedy", "top_p"), tokens=4, tracking=TRACED)
    tell(made)
    return made


def trace_of(store: str, decoding: str, prompt_id: str) -> str:
    (trace,) = traces(store, f"tags.decoding = '{decoding}' and tags.prompt_id = '{prompt_id}'")
    return trace.info.trace_id


def test_what_was_said_comes_home(sweep: Sweep, store: str) -> None:
    assert read_feedback(sweep) == ()
    assert not (sweep.folder / "feedback.json").exists(), "nothing was said"
    late = trace_of(store, "top_p", "seed-2")
    say(store, late, "quality", 2, rationale="dull <b>and</b> long")
    say(store, late, "fine", False)
    say(store, late, "mlflow.notes", "written into the box of notes")
    say(store, trace_of(store, "greedy", "chat"), "tone", "dry")
    judge = AssessmentSource("LLM_JUDGE", "some-judge")
    feedback = Feedback(name="quality", value=4.5, trace_id=trace_of(store, "greedy", "chat"), source=judge)
    TracingClient(store).store.create_assessment(feedback)
    told = read_feedback(sweep)
    one = {"label": "m/fp32/top_p", "prompt_id": "seed-2", "sample": 0}
    other = {"label": "m/fp32/greedy", "prompt_id": "chat", "sample": 0}
    mia = {"source": "mia@example.com"}
    assert list(told) == [
        {**other, "name": "tone", "value": "dry", "comment": "", **mia},
        {**other, "name": "quality", "value": 4.5, "comment": "", "source": "some-judge (LLM_JUDGE)"},
        {**one, "name": "quality", "value": 2, "comment": "dull <b>and</b> long", **mia},
        {**one, "name": "fine", "value": False, "comment": "", **mia},
        {**one, "name": "notes", "value": None, "comment": "written into the box of notes", **mia},
    ]
    assert json.loads((sweep.folder / "feedback.json").read_text()) == list(told)
    assert known_feedback(sweep.folder) == told


def test_what_was_taken_back_is_gone(sweep: Sweep, store: str) -> None:
    trace_id = trace_of(store, "greedy", "chat")
    first = say(store, trace_id, "quality", 1)
    say(store, trace_id, "quality", 5, overrides=first)
    wanted = Expectation(name="wanted", value="another text", trace_id=trace_id)
    TracingClient(store).store.create_assessment(wanted)
    assert [told["value"] for told in read_feedback(sweep)] == [5]
    (trace,) = traces(store, "tags.decoding = 'greedy' and tags.prompt_id = 'chat'")
    for assessment in trace.info.assessments:
        TracingClient(store).store.delete_assessment(trace_id, assessment.assessment_id)
    assert read_feedback(sweep) == ()
    assert known_feedback(sweep.folder) == ()


def test_it_is_of_the_texts_that_there_are(sweep: Sweep, outputs: Path, store: str) -> None:
    say(store, trace_of(store, "greedy", "chat"), "quality", 1)
    assert len(read_feedback(sweep)) == 1
    write_point(outputs, sweep.points[0].point_id, {"chat": "another"}, tokens=9)
    tell(sweep)
    assert read_feedback(sweep) == ()


def test_a_store_that_is_away_leaves_what_was_read(
    sweep: Sweep, store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say(store, trace_of(store, "greedy", "chat"), "quality", 1)
    told = read_feedback(sweep)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = replace(sweep, tracking={**TRACED, "uri": "http://127.0.0.1:9"})
    with caplog.at_level(logging.WARNING, logger="harness"):
        assert read_feedback(away) == told
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("harness")]
    assert "what was last read is shown" in line
    assert "\n" not in line
    elsewhere = sweep.folder / "none.db"
    assert read_feedback(replace(sweep, tracking={**TRACED, "uri": f"sqlite:///{elsewhere}"})) == told
    assert not elsewhere.exists()
    assert read_feedback(replace(sweep, tracking={**TRACED, "experiment": "another"})) == told


@pytest.mark.parametrize("tracking", [{"traces": False}, {"enabled": False}])
def test_mlflow_is_asked_only_where_there_are_traces(
    outputs: Path, tracking: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(outputs, models=("m",), tokens=4, tracking={**TRACED, **tracking})
    monkeypatch.setattr("harness.tracking.assessments._read", lambda *_: pytest.fail("asked"))
    assert read_feedback(sweep) == ()


def test_means_are_of_numbers_and_of_yes_and_no() -> None:
    said = [("a", "q", 4), ("a", "q", 1.5), ("a", "ok", True), ("a", "ok", False), ("b", "q", 3)]
    said += [("a", "tone", "dry"), ("b", "list", [1]), ("b", "bad", float("nan")), ("b", "n", None)]
    means = feedback_means([{"label": a, "name": n, "value": v} for a, n, v in said])
    assert means == {"a": {"feedback/q": 2.75, "feedback/ok": 0.5}, "b": {"feedback/q": 3.0}}


def test_report_brings_it_into_the_table(
    sweep: Sweep, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say(store, trace_of(store, "greedy", "chat"), "quality", 4)
    say(store, trace_of(store, "greedy", "email"), "quality", 1)
    assert main(["report", sweep.folder.name]) == 0
    rows = list(csv.DictReader(io.StringIO((sweep.folder / "summary.csv").read_text())))
    assert [row["feedback/quality"] for row in rows] == ["2.5", ""]
    assert len(known_feedback(sweep.folder)) == 2
