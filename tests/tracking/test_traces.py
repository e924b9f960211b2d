"""A trace a sample, at the sample's own times; what people say of one stays on it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_points import HOSTILE, PROMPTS, make_sweep, write_point, write_table
from mlflow import MlflowClient
from mlflow.tracing.client import TracingClient
from mlflow_runs import TRACED, runs, say, tell, traces

from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep

BEGAN = 1_790_000_000.0


def a_sweep(outputs: Path, **options: Any) -> Sweep:
    return make_sweep(outputs, models=("m",), decodings=("top_p",), tokens=4, tracking=TRACED, **options)


def folder_of(outputs: Path, sweep: Sweep) -> StoredPoint:
    return StoredPoint(outputs / "points" / sweep.points[0].point_id)


def keep_times(stored: StoredPoint, batch: int = 6) -> dict[str, tuple[float, float, float]]:
    """times.parquet of a point: by prompt id, when its text began, had a token and ended."""
    known = {
        row["prompt_id"]: (BEGAN, BEGAN + 0.25, BEGAN + 0.5 + place / 8)
        for place, row in enumerate(stored.rows("generations"))
    }
    rows = [
        {"prompt_id": name, "sample": 0, "started": t[0], "first_token": t[1], "ended": t[2], "batch": batch}
        for name, t in known.items()
    ]
    write_table(rows, stored.path("times.parquet"))
    return known


def test_a_trace_has_its_sample_s_times(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    known = keep_times(folder_of(outputs, sweep))
    before = dict(os.environ)
    tell(sweep)
    assert os.environ.get("MLFLOW_TRACKING_URI") == before.get("MLFLOW_TRACKING_URI")
    told = {trace.info.tags["prompt_id"]: trace for trace in traces(store)}
    assert set(told) == set(PROMPTS)
    (run,) = runs(store, "generation")
    rows = {row["prompt_id"]: row for row in folder_of(outputs, sweep).rows("generations")}
    for name, trace in told.items():
        row, (started, first, ended) = rows[name], known[name]
        by_name = {span.name: span for span in trace.data.spans}
        root, prefill, decode = by_name[f"{name} #0"], by_name["prefill"], by_name["decode"]
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
        assert metadata["times"].startswith("decoded together with 5 other texts")
        assert "latency is in the metrics" in metadata["times"]


def test_traces_are_found_by_what_people_ask_for(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    keep_times(folder_of(outputs, sweep))
    tell(sweep)
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


def test_without_times_nothing_is_made_up(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    stored = folder_of(outputs, sweep)
    keep_times(stored)
    rows = [row for row in stored.rows("times") if row["prompt_id"] != "chat"]
    write_table(rows, stored.path("times.parquet"))
    tell(sweep)
    (trace,) = traces(store, "tags.prompt_id = 'chat'")
    (span,) = trace.data.spans
    began, ended = sweep.points[0].started, sweep.points[0].ended
    assert (span.start_time_ns, span.end_time_ns) == (round(began * 1e9), round(ended * 1e9))
    assert "times were not kept" in trace.info.trace_metadata["times"]
    assert "batch" not in trace.info.trace_metadata
    stored.path("times.parquet").unlink()
    write_point(outputs, stored.point_id, {"other": "x"}, tokens=3)
    tell(sweep)
    (trace,) = traces(store)
    assert trace.info.tags["prompt_id"] == "other"
    assert len(trace.data.spans) == 1


def test_a_text_that_was_alone_says_so(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    keep_times(folder_of(outputs, sweep), batch=1)
    tell(sweep)
    assert {t.info.trace_metadata["times"].split(",")[0] for t in traces(store)} == {"decoded alone"}


def test_hostile_texts_are_traced(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs, texts=dict.fromkeys(HOSTILE))
    tell(sweep)
    told = {trace.info.tags["prompt_id"]: trace for trace in traces(store)}
    for name, text in HOSTILE.items():
        assert told[name].data.spans[0].outputs["output"] == text
        assert "\0" not in told[name].info.response_preview


def test_traces_that_were_not_asked_for_at_first_are_added(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    tell(replace(sweep, tracking={**TRACED, "traces": False}))
    assert traces(store) == []
    (run,) = runs(store, "generation")
    assert tell(sweep).written == 0, "the run itself is there already"
    assert {t.info.trace_metadata["mlflow.sourceRun"] for t in traces(store)} == {run.info.run_id}
    assert len(traces(store)) == len(PROMPTS)


def test_what_was_said_stays_when_the_point_is_told_again(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    stored = folder_of(outputs, sweep)
    tell(sweep)
    (trace,) = traces(store, "tags.prompt_id = 'chat'")
    first = say(store, trace.info.trace_id, "quality", 4, rationale="too long")
    say(store, trace.info.trace_id, "quality", 2, rationale="no, worse", overrides=first)
    metrics = json.loads(stored.path("metrics.json").read_text())
    metrics["metrics"]["text/more"] = 1.0
    stored.path("metrics.json").write_text(json.dumps(metrics))
    keep_times(stored)
    assert tell(replace(sweep, tracking={**TRACED, "traces": False})).written == 1
    (run,) = runs(store, "generation")
    told = traces(store)
    assert len(told) == len(PROMPTS)
    assert {t.info.trace_metadata["mlflow.sourceRun"] for t in told} == {run.info.run_id}
    (again,) = (t for t in told if t.info.trace_id == trace.info.trace_id)
    assert {span.name for span in again.data.spans} == {"chat #0", "prefill", "decode"}
    assert {a.value: (a.rationale, a.valid) for a in again.info.assessments} == {
        4: ("too long", False),
        2: ("no, worse", True),
    }


def test_cut_short_while_told_again_loses_nothing_that_was_said(
    outputs: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = a_sweep(outputs)
    stored = folder_of(outputs, sweep)
    tell(sweep)
    for trace in traces(store):
        say(store, trace.info.trace_id, "fine", True)
    metrics = json.loads(stored.path("metrics.json").read_text())
    metrics["metrics"]["text/more"] = 1.0
    stored.path("metrics.json").write_text(json.dumps(metrics))
    honest = TracingClient.start_trace
    for allowed in (0, 3, 6):
        left = allowed

        def start(self: TracingClient, info: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return honest(self, info)

        with monkeypatch.context() as patch:
            patch.setattr(TracingClient, "start_trace", start)
            if allowed == 6:
                patch.setattr(MlflowClient, "delete_run", lambda *_: (_ for _ in ()).throw(OSError("gone")))
            with pytest.raises((KeyboardInterrupt, OSError)):
                tell(sweep)
    tell(sweep)
    assert len(runs(store, "generation")) == 1
    told = traces(store)
    assert len(told) == len(PROMPTS)
    for trace in told:
        assert [a.value for a in trace.info.assessments] == [True]
        assert trace.info.trace_metadata["mlflow.sourceRun"] == runs(store, "generation")[0].info.run_id


def test_another_text_is_another_trace(outputs: Path, store: str) -> None:
    sweep = a_sweep(outputs)
    tell(sweep)
    (spoken_of,) = traces(store, "tags.prompt_id = 'chat'")
    say(store, spoken_of.info.trace_id, "quality", 1)
    write_point(outputs, sweep.points[0].point_id, PROMPTS, tokens=9)
    tell(sweep)
    told = traces(store, "tags.prompt_id = 'chat'")
    assert len(told) == 2, "what was said is not thrown away"
    (new,) = (t for t in told if t.info.trace_id != spoken_of.info.trace_id)
    assert new.info.assessments == []
    assert len(traces(store)) == len(PROMPTS) + 1


def test_the_same_sample_in_two_sweeps_has_two_traces(outputs: Path, store: str) -> None:
    whole = make_sweep(outputs, models=("m",), tokens=4, tracking=TRACED)
    part = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4, tracking=TRACED)
    tell(whole)
    tell(part)
    told = traces(store, "tags.prompt_id = 'chat' and tags.decoding = 'greedy'")
    assert {t.info.tags["sweep_id"] for t in told} == {whole.sweep_id, part.sweep_id}
