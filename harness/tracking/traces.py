"""One MLflow trace a sample, written after the fact.

When each sample began and ended is not kept: samples of a point are decoded together. A trace's times are
therefore the point's own, split evenly over its samples in their order, and it says so in its metadata
(`times`). How long a token takes is told by the latency metrics, never by a trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.results.store import StoredPoint
from harness.results.sweeps import SweepPoint

if TYPE_CHECKING:
    from harness.tracking.store import Store

TIMES = "the point's time split evenly over its samples; not measured a sample"
NANO = 1_000_000_000


def spans_of(started: float, ended: float, count: int) -> list[tuple[int, int]]:
    """Start and end of each of `count` samples in ns: equal parts of the point's time, one after the other."""
    begin, end = round(started * NANO), max(round(ended * NANO), round(started * NANO) + count)
    edges = [begin + (end - begin) * i // count for i in range(count + 1)]
    return list(zip(edges, edges[1:], strict=False))


def log_traces(
    store: Store, run_id: str, point: SweepPoint, stored: StoredPoint, started: float, ended: float
) -> None:
    """Write a trace for every sample of a point, tied to its run.

    Spans are exported to MLflow's process-wide tracking URI, which is set for the time of this call.
    """
    import mlflow
    from mlflow.entities import SpanType
    from mlflow.tracing.constant import SpanAttributeKey, TraceMetadataKey

    rows = stored.rows("generations")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    try:
        for row, (begin, end) in zip(rows, spans_of(started, ended, len(rows)), strict=True):
            usage = {
                "input_tokens": row["prompt_tokens"],
                "output_tokens": row["output_tokens"],
                "total_tokens": row["prompt_tokens"] + row["output_tokens"],
            }
            span = mlflow.start_span_no_context(
                f"{row['prompt_id']} #{row['sample']}",
                span_type=SpanType.LLM,
                inputs={"prompt": row["prompt"]},
                tags={"label": point.label, "point_id": point.point_id, "prompt_id": row["prompt_id"]},
                metadata={TraceMetadataKey.SOURCE_RUN: run_id, "times": TIMES},
                experiment_id=store.experiment_id,
                start_time_ns=begin,
            )
            span.set_attributes(_attributes(row, point) | {SpanAttributeKey.CHAT_USAGE: usage})
            span.set_outputs({"output": row["output"], "finish_reason": row["finish_reason"]})
            span.end(end_time_ns=end)
        mlflow.flush_trace_async_logging()
    finally:
        mlflow.set_tracking_uri(before)


def _attributes(row: dict[str, Any], point: SweepPoint) -> dict[str, Any]:
    """What is known of the sample, without what is null."""
    known = {
        "model": point.model,
        "quantization": point.quantization,
        "decoding": point.decoding,
        "sample": row["sample"],
        "seed": row["seed"],
        "mean_logprob": row.get("mean_logprob"),
        "sequence_score": row.get("sequence_score"),
    }
    return {key: value for key, value in known.items() if value is not None}
