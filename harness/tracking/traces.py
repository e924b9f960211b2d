"""One MLflow trace a sample, written after the fact.

When each sample began and ended is not kept: samples of a point are decoded together. A trace's times are
therefore the point's own, split evenly over its samples in their order, and it says so in its metadata
(`times`). How long a token takes is told by the latency metrics, never by a trace.

Traces go straight to the store: MLflow's fluent tracing would set its process-wide tracking URI.
"""

from __future__ import annotations

import base64
import hashlib
import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.results.store import StoredPoint
from harness.results.sweeps import SweepPoint

if TYPE_CHECKING:
    from harness.tracking.store import Store

TIMES = "the point's time split evenly over its samples; not measured a sample"
NANO = 1_000_000_000
MILLI = 1_000_000
LONGEST_PREVIEW = 1000


def spans_of(started: float, ended: float, count: int) -> list[tuple[int, int]]:
    """Start and end in ns of `count` samples: equal parts of the point's time, one after the other."""
    begin = round(started * NANO)
    end = max(round(ended * NANO), begin + count)
    return list(pairwise(begin + (end - begin) * i // max(1, count) for i in range(count + 1)))


def log_traces(
    store: Store, run_id: str, point: SweepPoint, stored: StoredPoint, started: float, ended: float
) -> None:
    """Write a trace for every sample of a point, tied to its run."""
    from mlflow.entities import Span, TraceInfo, TraceLocation, TraceState
    from mlflow.tracing.client import TracingClient
    from mlflow.tracing.constant import TraceMetadataKey

    client = TracingClient(store.uri)
    rows = stored.rows("generations")
    for index, (row, (begin, end)) in enumerate(zip(rows, spans_of(started, ended, len(rows)), strict=True)):
        identity = hashlib.sha256(f"{run_id}/{index}".encode()).digest()
        trace_id = f"tr-{identity[:16].hex()}"
        span = Span.from_dict(_span(row, point, identity, trace_id, begin, end))
        info = TraceInfo(
            trace_id=trace_id,
            trace_location=TraceLocation.from_experiment_id(store.experiment_id),
            request_time=begin // MILLI,
            execution_duration=(end - begin) // MILLI,
            state=TraceState.OK,
            request_preview=row["prompt"][:LONGEST_PREVIEW],
            response_preview=row["output"][:LONGEST_PREVIEW],
            trace_metadata={
                TraceMetadataKey.SOURCE_RUN: run_id,
                TraceMetadataKey.TOKEN_USAGE: json.dumps(_usage(row)),
                "times": TIMES,
            },
            tags={
                "mlflow.traceName": span.name,
                "label": point.label,
                "point_id": point.point_id,
                "prompt_id": row["prompt_id"],
            },
        )
        client.start_trace(info)
        client.log_spans(store.experiment_id, [span])


def delete_traces(store: Store, run_id: str) -> None:
    """Delete the traces of a run that is replaced."""
    wanted = f"metadata.`mlflow.sourceRun` = '{run_id}'"
    while found := store.client.search_traces(
        locations=[store.experiment_id], filter_string=wanted, max_results=100, include_spans=False
    ):
        ids = [trace.info.trace_id for trace in found]
        store.client.delete_traces(store.experiment_id, trace_ids=ids)


def _usage(row: dict[str, Any]) -> dict[str, int]:
    read, made = row["prompt_tokens"], row["output_tokens"]
    return {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}


def _span(
    row: dict[str, Any], point: SweepPoint, identity: bytes, trace_id: str, begin: int, end: int
) -> dict[str, Any]:
    """The one span of a sample as MLflow's Span.from_dict reads it: attributes are JSON texts."""
    from mlflow.entities import SpanType
    from mlflow.tracing.constant import SpanAttributeKey

    attributes = {
        SpanAttributeKey.REQUEST_ID: trace_id,
        SpanAttributeKey.SPAN_TYPE: SpanType.LLM,
        SpanAttributeKey.INPUTS: {"prompt": row["prompt"]},
        SpanAttributeKey.OUTPUTS: {"output": row["output"], "finish_reason": row["finish_reason"]},
        SpanAttributeKey.CHAT_USAGE: _usage(row),
        "model": point.model,
        "quantization": point.quantization,
        "decoding": point.decoding,
        "sample": row["sample"],
        "seed": row["seed"],
        "mean_logprob": row.get("mean_logprob"),
        "sequence_score": row.get("sequence_score"),
    }
    return {
        "trace_id": base64.b64encode(identity[:16]).decode(),
        "span_id": base64.b64encode(identity[16:24]).decode(),
        "parent_span_id": "",
        "name": f"{row['prompt_id']} #{row['sample']}",
        "start_time_unix_nano": begin,
        "end_time_unix_nano": end,
        "attributes": {key: json.dumps(value) for key, value in attributes.items() if value is not None},
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "events": [],
    }
