"""One MLflow trace a sample, written after the fact, with the times at which the sample came to be.

What people say of a text hangs on its trace. So a trace's id is made from what it shows (sweep, point,
prompt, sample and the text itself): a point that is told again writes over its own traces, and what was said
stays on them. Where the text is another one, so is the trace.

Traces go straight to the store: MLflow's fluent tracing would set its process-wide tracking URI.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import TraceInfo

    from harness.tracking.mlflow_store import Store

NANO = 1_000_000_000
LONGEST_PREVIEW = 1000
LONGEST_TAG = 4000
AT_ONCE = 100
"""Traces whose spans go to the store together, and traces a request deletes."""
UNTIMED = (
    "this sample's own times were not kept: the trace spans the whole of its point; latency is in the metrics"
)


def identity_of(experiment_id: str, sweep: Sweep, point: SweepPoint, row: dict[str, Any]) -> bytes:
    """32 bytes that name a sample's trace; its id is made from the first 16.

    Args:
        experiment_id: where the sweep is tracked.
        sweep: the sample's.
        point: the sample's.
        row: prompt_id, sample and output of the sample.
    """
    shown = (experiment_id, sweep.sweep_id, point.point_id, point.label)
    text = json.dumps([*shown, row["prompt_id"], row["sample"], row["output"]])
    return hashlib.sha256(text.encode()).digest()


def trace_id_of(identity: bytes) -> str:
    """The trace's id, as MLflow writes it."""
    return f"tr-{identity[:16].hex()}"


def log_traces(
    store: Store,
    run_id: str,
    sweep: Sweep,
    point: SweepPoint,
    stored: StoredPoint,
    whole: tuple[float, float],
) -> None:
    """Write a trace for every sample of a point, tied to its run; what is there already is written over.

    Args:
        store: where the run is.
        run_id: of the point.
        sweep: the point's.
        point: whose samples they are.
        stored: its folder.
        whole: when the point began and ended, for samples whose own times were not kept.
    """
    from mlflow.entities import Span, TraceInfo, TraceLocation, TraceState
    from mlflow.tracing.client import TracingClient
    from mlflow.tracing.constant import TraceMetadataKey

    client = TracingClient(store.uri)
    location = TraceLocation.from_experiment_id(store.experiment_id)
    times = (
        {(t["prompt_id"], t["sample"]): t for t in stored.rows("times")}
        if stored.has("times.parquet")
        else {}
    )
    for rows in stored.row_batches("generations", AT_ONCE):
        spans: list[Span] = []
        for row in rows:
            identity = identity_of(store.experiment_id, sweep, point, row)
            own = times.get((row["prompt_id"], row["sample"]))
            some = _spans(row, point, identity, own, whole)
            started, ended = some[0]["start_time_unix_nano"], some[0]["end_time_unix_nano"]
            info = TraceInfo(
                trace_id=trace_id_of(identity),
                trace_location=location,
                request_time=started // 1_000_000,
                execution_duration=(ended - started) // 1_000_000,
                state=TraceState.OK,
                request_preview=_plain(row["prompt"], LONGEST_PREVIEW),
                response_preview=_plain(row["output"], LONGEST_PREVIEW),
                trace_metadata={
                    TraceMetadataKey.SOURCE_RUN: run_id,
                    TraceMetadataKey.TOKEN_USAGE: json.dumps(_usage(row)),
                    **_about_times(own),
                },
                tags={"mlflow.traceName": some[0]["name"], **_tags(sweep, point, row)},
            )
            client.start_trace(info)
            spans += [Span.from_dict(span) for span in some]
        client.log_spans(store.experiment_id, spans)


def find_traces(client: MlflowClient, experiment_id: str, said: str) -> Iterator[TraceInfo]:
    """The traces that answer a search, without their spans."""
    token = None
    while True:
        page = client.search_traces(
            locations=[experiment_id],
            filter_string=said,
            max_results=500,
            page_token=token,
            include_spans=False,
        )
        yield from (trace.info for trace in page)
        token = page.token
        if not token:
            return


def delete_traces(store: Store, run_id: str) -> None:
    """Delete the traces of a run that goes, but for those that people have said something of."""
    found = find_traces(store.client, store.experiment_id, f"metadata.`mlflow.sourceRun` = '{run_id}'")
    ids = [info.trace_id for info in found if not info.assessments]
    for place in range(0, len(ids), AT_ONCE):
        store.client.delete_traces(store.experiment_id, trace_ids=ids[place : place + AT_ONCE])


def _tags(sweep: Sweep, point: SweepPoint, row: dict[str, Any]) -> dict[str, str]:
    """What a trace is searched by."""
    tags = {
        "sweep_id": sweep.sweep_id,
        "sweep": sweep.name,
        "point_id": point.point_id,
        "label": point.label,
        "model": point.model,
        "quantization": point.quantization,
        "prompts": point.prompts,
        "decoding": point.decoding,
        "prompt_id": row["prompt_id"],
        "sample": str(row["sample"]),
        "finish_reason": row["finish_reason"],
    }
    return {key: _plain(value, LONGEST_TAG) for key, value in tags.items()}


def _about_times(own: dict[str, Any] | None) -> dict[str, str]:
    """How a trace's times are to be read."""
    if own is None:
        return {"times": UNTIMED}
    others = own["batch"] - 1
    company = (
        f"decoded together with {others} other text{'s' if others > 1 else ''}" if others else "decoded alone"
    )
    return {"batch": str(own["batch"]), "times": f"{company}, and recorded; latency is in the metrics"}


def _plain(text: str, longest: int) -> str:
    """A text that any database takes: not too long, and without NUL, which PostgreSQL refuses."""
    return text[:longest].replace("\0", "\N{SYMBOL FOR NULL}")


def _is_known(value: Any) -> bool:
    """Whether a value is one that JSON can tell."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _usage(row: dict[str, Any]) -> dict[str, int]:
    read, made = row["prompt_tokens"], row["output_tokens"]
    return {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}


def _spans(
    row: dict[str, Any],
    point: SweepPoint,
    identity: bytes,
    own: dict[str, Any] | None,
    whole: tuple[float, float],
) -> list[dict[str, Any]]:
    """A sample's span, and below it prefill and decode where their times are known; for Span.from_dict."""
    from mlflow.entities import SpanType
    from mlflow.tracing.constant import SpanAttributeKey

    attributes = {
        SpanAttributeKey.SPAN_TYPE: SpanType.LLM,
        SpanAttributeKey.INPUTS: {"prompt": row["prompt"]},
        SpanAttributeKey.OUTPUTS: {"output": row["output"], "finish_reason": row["finish_reason"]},
        SpanAttributeKey.CHAT_USAGE: _usage(row),
        SpanAttributeKey.MODEL: point.model,
        "quantization": point.quantization,
        "decoding": point.decoding,
        "sample": row["sample"],
        "seed": row["seed"],
        "mean_logprob": row.get("mean_logprob"),
        "sequence_score": row.get("sequence_score"),
        **_about_times(own),
    }
    name = f"{row['prompt_id']} #{row['sample']}"
    if own is None:
        return [_span(name, identity, 0, whole, attributes)]
    task = {SpanAttributeKey.SPAN_TYPE: SpanType.TASK}
    prefill, decode = (own["started"], own["first_token"]), (own["first_token"], own["ended"])
    return [
        _span(name, identity, 0, (own["started"], own["ended"]), attributes),
        _span("prefill", identity, 1, prefill, {**task, "prompt_tokens": row["prompt_tokens"]}),
        _span("decode", identity, 2, decode, {**task, "output_tokens": row["output_tokens"]}),
    ]


def _span(
    name: str, identity: bytes, number: int, times: tuple[float, float], attributes: dict[str, Any]
) -> dict[str, Any]:
    """One span as MLflow's Span.from_dict reads it, attributes as JSON texts; number 0 is the root."""
    from mlflow.tracing.constant import SpanAttributeKey

    ids = [identity[16:23] + bytes([place]) for place in (0, number)]
    begin, end = (round(at * NANO) for at in times)
    told = {SpanAttributeKey.REQUEST_ID: trace_id_of(identity), **attributes}
    return {
        "trace_id": base64.b64encode(identity[:16]).decode(),
        "span_id": base64.b64encode(ids[1]).decode(),
        "parent_span_id": base64.b64encode(ids[0]).decode() if number else "",
        "name": name,
        "start_time_unix_nano": begin,
        "end_time_unix_nano": max(begin, end),
        "attributes": {key: json.dumps(value) for key, value in told.items() if _is_known(value)},
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "events": [],
    }
