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
    Metric("drift/kl_mean", "KL", "mean KL divergence from the reference on its texts", "nats", 5, "lower"),
    Metric("drift/kl_median", "KL p50", "median KL divergence from the reference", "nats", 5, "lower"),
    Metric("drift/kl_p90", "KL p90", "90th percentile of the KL divergence", "nats", 5, "lower"),
    Metric("drift/kl_p99", "KL p99", "99th percentile of the KL divergence", "nats", 5, "lower"),
    Metric("drift/kl_max", "KL max", "largest KL divergence of a token", "nats", 4, "lower"),
    Metric("drift/same_top", "same top", "tokens at which both like the same one best", "", 4, "higher"),
    Metric(
        "drift/same_top_clear", "same clear top", "the same where the reference's best leads by over 0.05", "",
        4, "higher",
    ),
    Metric("drift/rms_dp", "RMS Δp", "root mean square change of the token's probability", "", 4, "lower"),
    Metric(
        "drift/perplexity_ratio", "PPL ratio", "perplexity of the reference's texts over its own", "", 5,
        "lower",
    ),
    Metric("drift/parted", "parted", "texts that part from the reference's own", "", 3, "lower"),
    Metric("drift/first_divergence", "parts at", "median step at which texts part", "", 0, "higher"),
    Metric("drift/text_perplexity", "text PPL", "perplexity of the fixed text", "", 3, "lower"),
    Metric("drift/text_bits_per_byte", "bits/byte", "bits a byte of the fixed text", "", 4, "lower"),
    Metric("memory/cache_bytes_per_token", "cache", "key-value cache of a token", "bytes", 0, "lower"),
    Metric("latency/load_seconds", "load", "time to load the model", "s", 2, "lower"),
)  # fmt: skip
"""In the order in which they are shown; a metric that is not here is known by its key alone."""


def metric_of(key: str) -> Metric:
    """What is known about a metric; of one that is not in the catalogue, its key."""
    for metric in METRICS:
        if metric.key == key:
            return metric
    return Metric(key, key.rpartition("/")[2], key)
