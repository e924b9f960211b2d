"""One MLflow trace per sample, written after the fact, which lasts its share of the time of its batch.

All samples of a batch are decoded at the same time. A span as long as the batch would let every sample take
all of it; so root, prefill and decode are each divided by the size of the batch, their attributes say so, and
the durations of a sweep's traces add up to the time that it was decoded in.

Human feedback is attached to traces. So a trace's id is made from its content (sweep, point, prompt, sample
and output): a point that is logged again overwrites its own traces, and the feedback stays on them. Another
output is another trace.

Traces go straight to the store: MLflow's fluent tracing would set its process-wide tracking URI.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.analysis.metric_catalog import metrics_from_json
from harness.analysis.prompt_titles import turns_of
from harness.report.point_names import short_names
from harness.store.mlflow_uri import openable_uri
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint
from harness.tracking.facts import asked, point_tags
from harness.tracking.mlflow_store import MlflowStore, pages
from harness.tracking.scores import assessments_of, is_ours

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import TraceInfo

NANO = 1_000_000_000
MAX_PREVIEW = 1000
MAX_TAG = 4000
BATCH = 100
"""Traces whose spans are written together, and traces deleted by one request."""
UNTIMED = "no times were recorded for this sample: the trace spans its whole point; latency is in the metrics"

Row = dict[str, Any]
"""A row of generations.parquet, or of times.parquet."""


def identity_of(experiment_id: str, sweep: Sweep, point: SweepPoint, row: Row) -> bytes:
    """Return 32 bytes that identify a sample's trace; its id is made from the first 16.

    `row` has the prompt_id, sample and output of the sample.
    """
    keys = (experiment_id, sweep.sweep_id, point.point_id, point.label)
    text = json.dumps([*keys, row["prompt_id"], row["sample"], row["output"]])
    return hashlib.sha256(text.encode()).digest()


def trace_id_of(identity: bytes) -> str:
    """Return the trace's id, as MLflow writes it."""
    return f"tr-{identity[:16].hex()}"


def log_traces(
    store: MlflowStore,
    run_id: str,
    sweep: Sweep,
    point: SweepPoint,
    stored: StoredPoint,
    point_times: tuple[float, float],
) -> None:
    """Write a trace for every sample of a point, linked to its run; existing ones are overwritten.

    `point_times` is when the point started and ended, for samples whose times were not recorded.
    """
    from mlflow.entities import Span, TraceInfo, TraceLocation, TraceState
    from mlflow.tracing.client import TracingClient
    from mlflow.tracing.constant import TraceMetadataKey

    client = TracingClient(openable_uri(store.uri))
    location = TraceLocation.from_experiment_id(store.experiment_id)
    custom = metrics_from_json(stored.metrics()) if stored.has("metrics.json") else {}
    rows_of_times = stored.rows("times") if stored.has("times.parquet") else ()
    times = {(t["prompt_id"], t["sample"]): t for t in rows_of_times}
    run = dict(zip((p.label for p in sweep.points), short_names(sweep.points), strict=True))[point.label]
    for rows in stored.row_batches("generations", BATCH):
        spans: list[Span] = []
        for row in rows:
            identity = identity_of(store.experiment_id, sweep, point, row)
            sample_times = times.get((row["prompt_id"], row["sample"]))
            name = f"{run} · {row['prompt_id']} #{row['sample']}"
            sample_spans = _spans(name, row, point, identity, sample_times, point_times)
            started, ended = sample_spans[0]["start_time_unix_nano"], sample_spans[0]["end_time_unix_nano"]
            metadata = {TraceMetadataKey.SOURCE_RUN: run_id, **_timing_notes(sample_times)}
            if usage := _usage(row):
                metadata[TraceMetadataKey.TOKEN_USAGE] = json.dumps(usage)
            info = TraceInfo(
                trace_id=trace_id_of(identity),
                trace_location=location,
                request_time=started // 1_000_000,
                execution_duration=(ended - started) // 1_000_000,
                state=TraceState.OK,
                request_preview=_portable(asked(row), MAX_PREVIEW),
                response_preview=_portable(row["output"], MAX_PREVIEW),
                trace_metadata=metadata,
                tags={"mlflow.traceName": _portable(name, MAX_PREVIEW), **_tags(sweep, point, row)},
                assessments=list(assessments_of(row, identity, custom)),
            )
            client.start_trace(info)
            spans += [Span.from_dict(span) for span in sample_spans]
        client.log_spans(store.experiment_id, spans)


def find_traces(client: MlflowClient, experiment_id: str, filter_string: str) -> Iterator[TraceInfo]:
    """Return the traces that match a search, without their spans."""
    found = pages(
        client.search_traces, locations=[experiment_id], filter_string=filter_string, include_spans=False
    )
    return (trace.info for trace in found)


def delete_traces(store: MlflowStore, run_id: str) -> None:
    """Delete the traces of a run that is about to be deleted, except those with feedback."""
    found = find_traces(store.client, store.experiment_id, f"metadata.`mlflow.sourceRun` = '{run_id}'")
    ids = [info.trace_id for info in found if all(map(is_ours, info.assessments))]
    for start in range(0, len(ids), BATCH):
        store.client.delete_traces(store.experiment_id, trace_ids=ids[start : start + BATCH])


def _tags(sweep: Sweep, point: SweepPoint, row: Row) -> dict[str, str]:
    """Return what a trace can be searched by; what the backend did not tell is left out."""
    sample = {"sample": str(row["sample"]), "finish_reason": row["finish_reason"]}
    tags = {**point_tags(sweep, point), "prompt_id": row["prompt_id"], **sample}
    return {key: _portable(value, MAX_TAG) for key, value in tags.items() if value is not None}


def _timing_notes(times: Row | None) -> dict[str, str]:
    """Return the metadata that says how to read a trace's times; see `own_times`."""
    if times is None:
        return {"times": UNTIMED}
    note, batch = "decoded alone", times["batch"]
    if batch > 1:
        seconds = times["ended"] - times["started"]
        note = f"{seconds / batch:.3g} s: {seconds:.3g} s in a batch of {batch} samples, divided by {batch}"
    times_note = f"{note}, while being recorded; latency is in the metrics"
    return {"batch": str(batch), "times": times_note}


def _portable(text: str, longest: int) -> str:
    """Return a text that any database takes: not too long, and without NUL, which PostgreSQL refuses."""
    return text[:longest].replace("\0", "\N{SYMBOL FOR NULL}")


def _is_known(value: Any) -> bool:
    """Return whether a value is neither null, nor NaN, nor an empty mapping."""
    return value is not None and value != {} and not (isinstance(value, float) and math.isnan(value))


def _usage(row: Row) -> dict[str, int]:
    """Return MLflow's token usage; without the counts that the backend did not tell."""
    counts = {"input_tokens": row["prompt_tokens"], "output_tokens": row["output_tokens"]}
    usage = {name: count for name, count in counts.items() if count is not None}
    return usage | {"total_tokens": sum(usage.values())} if len(usage) == len(counts) else usage


def _spans(
    name: str,
    row: Row,
    point: SweepPoint,
    identity: bytes,
    times: Row | None,
    point_times: tuple[float, float],
) -> list[dict[str, Any]]:
    """Return a sample's span, then its prefill and decode where their times are known; for Span.from_dict."""
    from mlflow.entities import SpanType
    from mlflow.tracing.constant import SpanAttributeKey

    attributes = {
        SpanAttributeKey.SPAN_TYPE: SpanType.LLM,
        SpanAttributeKey.INPUTS: _inputs(row),
        SpanAttributeKey.OUTPUTS: {"output": row["output"], "finish_reason": row["finish_reason"]},
        SpanAttributeKey.CHAT_USAGE: _usage(row),
        SpanAttributeKey.MODEL: point.model,
        "quantization": point.quantization,
        "decoding": point.decoding,
        "sample": row["sample"],
        "seed": row["seed"],
        "mean_logprob": row.get("mean_logprob"),
        "sequence_score": row.get("sequence_score"),
        **_timing_notes(times),
    }
    if times is None:
        return [_span(name, identity, 0, point_times, attributes)]
    task = {SpanAttributeKey.SPAN_TYPE: SpanType.TASK, "times": _share_note(times["batch"])}
    started, first_token, ended = own_times(times)
    prefill, decode = (started, first_token), (first_token, ended)
    return [
        _span(name, identity, 0, (started, ended), attributes),
        _span("prefill", identity, 1, prefill, {**task, "prompt_tokens": row["prompt_tokens"]}),
        _span("decode", identity, 2, decode, {**task, "output_tokens": row["output_tokens"]}),
    ]


def _share_note(batch: int) -> str | None:
    """Return how a span within a trace relates to the time of its batch; None where it was decoded alone."""
    return f"of a batch of {batch} samples, divided by {batch}" if batch > 1 else None


def own_times(times: Row) -> tuple[float, float, float]:
    """Return start, first token and end of a sample with its share of its batch's time.

    Samples of a batch are decoded at the same time: of each moment, every one has an equal share. So the
    durations of a sweep's traces add up to the time that it took.
    """
    started, batch = times["started"], max(1, times["batch"])
    shares = ((times[name] - started) / batch for name in ("first_token", "ended"))
    first_token, ended = (started + share for share in shares)
    return started, first_token, ended


def _inputs(row: Row) -> dict[str, Any]:
    """Return what the model was asked: the turns of a chat, else the prompt."""
    turns = turns_of(row.get("messages"))
    if turns:
        return {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}
    return {"prompt": row["prompt"]}


def _span(
    name: str, identity: bytes, number: int, times: tuple[float, float], attributes: dict[str, Any]
) -> dict[str, Any]:
    """Return one span as MLflow's Span.from_dict reads it, attributes as JSON; number 0 is the root."""
    from mlflow.tracing.constant import SpanAttributeKey

    root_id, span_id = (identity[16:23] + bytes([index]) for index in (0, number))
    start, end = (round(at * NANO) for at in times)
    attributes = {SpanAttributeKey.REQUEST_ID: trace_id_of(identity), **attributes}
    return {
        "trace_id": base64.b64encode(identity[:16]).decode(),
        "span_id": base64.b64encode(span_id).decode(),
        "parent_span_id": base64.b64encode(root_id).decode() if number else "",
        "name": name,
        "start_time_unix_nano": start,
        "end_time_unix_nano": max(start, end),
        "attributes": {key: json.dumps(value) for key, value in attributes.items() if _is_known(value)},
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "events": [],
    }
