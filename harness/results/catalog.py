"""Every metric of a point by its key: what it is called, its unit, what it says and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """What is known about a metric.

    Attributes:
        key: `section/name`, as in metrics.json.
        name: short, over a column.
        says: one line; what it measures.
        unit: beside the name; empty without one.
        decimals: places after the point when it is shown.
        better: the direction that is better; None where neither is (a mean logprob is a trait, not a merit).
        per_sample: the column of generations.parquet that holds it a sample; None where it has none.
    """

    key: str
    name: str
    says: str
    unit: str = ""
    decimals: int = 3
    better: Better | None = None
    per_sample: str | None = None


METRICS: tuple[Metric, ...] = (
    Metric("latency/ttft_p50_ms", "TTFT", "text in to first token out, median", "ms", 1, "lower"),
    Metric("latency/itl_p50_ms", "ITL", "time between tokens, median", "ms", 2, "lower"),
    Metric("throughput/tokens_per_s", "tok/s", "tokens over the time of a run, median", "", 0, "higher"),
    Metric(
        "probability/mean_logprob", "logprob", "mean raw logprob of the chosen tokens, nats", "", 3, None,
        "mean_logprob",
    ),
    Metric("text/distinct_2", "dist-2", "distinct word pairs over all", "", 3, "higher", "distinct_2"),
    Metric("text/output_tokens", "tokens", "mean tokens of a text", "", 0, None, "output_tokens"),
)  # fmt: skip
"""In the order in which they are shown; a metric that is not here is known by its key alone."""


def metric_of(key: str) -> Metric:
    """What is known about a metric; of one that is not in the catalogue, its key."""
    for metric in METRICS:
        if metric.key == key:
            return metric
    return Metric(key, key.rpartition("/")[2], key)
