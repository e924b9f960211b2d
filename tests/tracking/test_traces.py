"""One trace per sample, with the sample's own times; feedback on a trace is never lost."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_points import (
    CHOSEN_ONLY,
    HOSTILE,
    PROMPTS,
    TEXTS_ONLY,
    make_sweep,
    write_point,
    write_samples,
    write_table,
)
from mlflow import MlflowClient
from mlflow.tracing.client import TracingClient
from mlflow_runs import TRACED, give_feedback, log_sweep, runs, traces

from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep

STARTED = 1_790_000_000.0


def a_sweep(outputs: Path, **options: Any) -> Sweep:
    return make_sweep(outputs, models=("m",), decodings=("top_p",), tokens=4, tracking=TRACED, **options)


def folder_of(outputs: Path, sweep: Sweep) -> StoredPoint:
    return StoredPoint(outputs / "points" / sweep.points[0].point_id)


def write_times(stored: StoredPoint, batch: int = 6) -> dict[str, tuple[float, float, float]]:
    """Write times.parquet of a point; return start, first token and end by prompt id."""
    known = {
        row["prompt_id"]: (STARTED, STARTED + 0.25, STARTED + 0.5 + index / 8)
        for index, row in enumerate(stored.rows("generations"))
    }
    rows = [
        {"prompt_id": name, "sample": 0, "started": t[0], "first_token": t[1], "ended": t[2], "batch": batch}
        for name, t in known.items()
    ]
    write_table(rows, stored.path("times.parquet"))
    return known


def test_a_trace_has_the_times_of_its_sample(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    known = write_times(folder_of(outputs, sweep))
    before = dict(os.environ)
    log_sweep(sweep)
    assert os.environ.get("MLFLOW_TRACKING_URI") == before.get("MLFLOW_TRACKING_URI")
    by_prompt = {trace.info.tags["prompt_id"]: trace for trace in traces(store)}
    assert set(by_prompt) == set(PROMPTS)
    (run,) = runs(store, "generation")
    rows = {row["prompt_id"]: row for row in folder_of(outputs, sweep).rows("generations")}
    for name, trace in by_prompt.items():
        row, (started, *later) = rows[name], known[name]
        first, ended = (started + (moment - started) / 6 for moment in later)  # a sixth of the batch's time
        by_name = {span.name: span for span in trace.data.spans}
        root, prefill, decode = (
            by_name[f"{sweep.points[0].label} · {name} #0"],
            by_name["prefill"],
            by_name["decode"],
        )
        assert (root.start_time_ns, root.end_time_ns) == (round(started * 1e9), round(ended * 1e9))
        assert (prefill.start_time_ns, prefill.end_time_ns) == (root.start_time_ns, round(first * 1e9))
        assert (decode.start_time_ns, decode.end_time_ns) == (prefill.end_time_ns, root.end_time_ns)
        assert root.parent_id is None
        assert prefill.parent_id == decode.parent_id == root.span_id
        assert trace.info.request_time == round(1000 * started)
        assert trace.info.execution_duration == pytest.approx(1000 * (ended - started), abs=1)
        assert root.inputs == {"prompt": PROMPTS[name]}
        assert root.outputs == {"output": row["output"], "finish_reason": row["finish_reason"]}
        assert trace.info.token_usage == {
            "input_tokens": 7,
            "output_tokens": row["output_tokens"],
            "total_tokens": 7 + row["output_tokens"],
        }
        metadata = trace.info.trace_metadata
        assert metadata["mlflow.sourceRun"] == run.info.run_id
        assert metadata["batch"] == "6"
        # What is said of the time is the time that is shown.
        said = f"{ended - started:.3g} s: {6 * (ended - started):.3g} s in a batch of 6 samples, divided by 6"
        assert metadata["times"] == f"{said}, while being recorded; latency is in the metrics"
        assert root.attributes["times"] == metadata["times"]
        for span in (prefill, decode):
            assert span.attributes["times"] == "of a batch of 6 samples, divided by 6"


def test_the_list_of_traces_tells_runs_and_prompts_apart(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy", "top_p"), tokens=4, tracking=TRACED)
    log_sweep(sweep)
    names = {trace.info.tags["mlflow.traceName"] for trace in traces(store)}
    assert names == {f"{run} · {prompt} #0" for run in ("greedy", "top_p") for prompt in PROMPTS}


def test_traces_can_be_searched_by_their_tags(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    write_times(folder_of(outputs, sweep))
    log_sweep(sweep)
    point = sweep.points[0]
    for name in ("label", "model", "quantization", "decoding", "point_id"):
        value = getattr(point, name)
        assert len(traces(store, f"tags.`{name}` = '{value}'")) == len(PROMPTS)
        assert traces(store, f"tags.`{name}` = 'another'") == []
    assert len(traces(store, f"tags.sweep_id = '{sweep.sweep_id}' and tags.sample = '0'")) == len(PROMPTS)
    (one,) = traces(store, "tags.prompt_id = 'chat'")
    assert one.info.request_preview == PROMPTS["chat"]
    reasons = [row["finish_reason"] for row in folder_of(outputs, sweep).rows("generations")]
    assert len(traces(store, "tags.finish_reason = 'eos'")) == reasons.count("eos")
    assert len(traces(store, f"metadata.`mlflow.sourceRun` = '{runs(store, 'generation')[0].info.run_id}'"))


def test_without_recorded_times_the_trace_spans_the_point(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    stored = folder_of(outputs, sweep)
    write_times(stored)
    rows = [row for row in stored.rows("times") if row["prompt_id"] != "chat"]
    write_table(rows, stored.path("times.parquet"))
    log_sweep(sweep)
    (trace,) = traces(store, "tags.prompt_id = 'chat'")
    (span,) = trace.data.spans
    started, ended = sweep.points[0].started, sweep.points[0].ended
    assert (span.start_time_ns, span.end_time_ns) == (round(started * 1e9), round(ended * 1e9))
    assert "no times were recorded" in trace.info.trace_metadata["times"]
    assert "batch" not in trace.info.trace_metadata
    stored.path("times.parquet").unlink()
    write_point(outputs, stored.point_id, {"other": "x"}, tokens=3)
    log_sweep(sweep)
    (trace,) = traces(store)
    assert trace.info.tags["prompt_id"] == "other"
    assert len(trace.data.spans) == 1


def test_a_sample_decoded_alone_has_that_in_its_metadata(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    write_times(folder_of(outputs, sweep), batch=1)
    log_sweep(sweep)
    assert {t.info.trace_metadata["times"].split(",")[0] for t in traces(store)} == {"decoded alone"}


def test_hostile_texts_are_traced(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs, texts=dict.fromkeys(HOSTILE))
    log_sweep(sweep)
    by_prompt = {trace.info.tags["prompt_id"]: trace for trace in traces(store)}
    for name, text in HOSTILE.items():
        assert by_prompt[name].data.spans[0].outputs["output"] == text
        assert "\0" not in by_prompt[name].info.response_preview


def test_what_a_backend_did_not_tell_is_left_out(
    outputs: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = a_sweep(outputs)
    stored = write_samples(outputs, sweep.points[0].point_id, (TEXTS_ONLY, CHOSEN_ONLY))
    page = outputs / "page.html"
    page.write_text("")
    monkeypatch.setattr("harness.tracking.tracker.tokens_page", lambda *_: page)
    log_sweep(sweep)
    found = {trace.info.tags["prompt_id"]: trace for trace in traces(store)}
    texts, chosen = found["texts"], found["chosen"]
    assert texts.data.spans[0].outputs == {"output": " a dark night", "finish_reason": None}
    assert "finish_reason" not in texts.info.tags
    assert texts.info.token_usage is None
    assert "mean_logprob" not in texts.data.spans[0].attributes
    assert chosen.info.tags["finish_reason"] == "length"
    assert chosen.info.token_usage == {"output_tokens": 2}
    assert chosen.data.spans[0].attributes["mean_logprob"] == -1.0
    point = replace(sweep.points[0], status="reused", started=None, ended=None)
    log_sweep(replace(sweep, points=(point,)))
    (run,) = runs(store, "generation")
    assert run.info.status == "FINISHED"
    assert stored.rows("tokens")[0]["token_id"] is None


def test_traces_can_be_added_later(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    log_sweep(replace(sweep, tracking={**TRACED, "traces": False}))
    assert traces(store) == []
    (run,) = runs(store, "generation")
    assert log_sweep(sweep).written == 0, "the run itself is there already"
    assert {t.info.trace_metadata["mlflow.sourceRun"] for t in traces(store)} == {run.info.run_id}
    assert len(traces(store)) == len(PROMPTS)


def test_feedback_stays_when_the_point_is_logged_again(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    stored = folder_of(outputs, sweep)
    log_sweep(sweep)
    (trace,) = traces(store, "tags.prompt_id = 'chat'")
    first = give_feedback(store, trace.info.trace_id, "quality", 4, rationale="too long")
    give_feedback(store, trace.info.trace_id, "quality", 2, rationale="no, worse", overrides=first)
    metrics = json.loads(stored.path("metrics.json").read_text())
    metrics["metrics"]["text/more"] = 1.0
    stored.path("metrics.json").write_text(json.dumps(metrics))
    write_times(stored)
    assert log_sweep(replace(sweep, tracking={**TRACED, "traces": False})).written == 1
    (run,) = runs(store, "generation")
    found = traces(store)
    assert len(found) == len(PROMPTS)
    assert {t.info.trace_metadata["mlflow.sourceRun"] for t in found} == {run.info.run_id}
    (again,) = (t for t in found if t.info.trace_id == trace.info.trace_id)
    assert {span.name for span in again.data.spans} == {
        f"{sweep.points[0].label} · chat #0",
        "prefill",
        "decode",
    }
    assert {a.value: (a.rationale, a.valid) for a in again.info.assessments} == {
        4: ("too long", False),
        2: ("no, worse", True),
    }


def test_an_interruption_loses_no_feedback(
    outputs: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = a_sweep(outputs)
    stored = folder_of(outputs, sweep)
    log_sweep(sweep)
    for trace in traces(store):
        give_feedback(store, trace.info.trace_id, "fine", True)
    metrics = json.loads(stored.path("metrics.json").read_text())
    metrics["metrics"]["text/more"] = 1.0
    stored.path("metrics.json").write_text(json.dumps(metrics))
    original = TracingClient.start_trace
    for allowed in (0, 3, 6):
        left = allowed

        def start(self: TracingClient, info: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return original(self, info)

        with monkeypatch.context() as patch:
            patch.setattr(TracingClient, "start_trace", start)
            if allowed == 6:
                patch.setattr(MlflowClient, "delete_run", lambda *_: (_ for _ in ()).throw(OSError("gone")))
            with pytest.raises((KeyboardInterrupt, OSError)):
                log_sweep(sweep)
    log_sweep(sweep)
    assert len(runs(store, "generation")) == 1
    found = traces(store)
    assert len(found) == len(PROMPTS)
    for trace in found:
        assert [a.value for a in trace.info.assessments] == [True]
        assert trace.info.trace_metadata["mlflow.sourceRun"] == runs(store, "generation")[0].info.run_id


def test_another_output_is_another_trace(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    log_sweep(sweep)
    (rated,) = traces(store, "tags.prompt_id = 'chat'")
    give_feedback(store, rated.info.trace_id, "quality", 1)
    write_point(outputs, sweep.points[0].point_id, PROMPTS, tokens=9)
    log_sweep(sweep)
    found = traces(store, "tags.prompt_id = 'chat'")
    assert len(found) == 2, "feedback is not deleted"
    (new,) = (t for t in found if t.info.trace_id != rated.info.trace_id)
    assert new.info.assessments == []
    assert len(traces(store)) == len(PROMPTS) + 1


def test_the_same_sample_in_two_sweeps_has_two_traces(outputs: Path, store: str) -> None:
    full = make_sweep(outputs, models=("m",), tokens=4, tracking=TRACED)
    subset = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4, tracking=TRACED)
    log_sweep(full)
    log_sweep(subset)
    found = traces(store, "tags.prompt_id = 'chat' and tags.decoding = 'greedy'")
    assert {t.info.tags["sweep_id"] for t in found} == {full.sweep_id, subset.sweep_id}
