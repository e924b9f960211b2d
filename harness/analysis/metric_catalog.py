"""Every metric of a point by its key: what it is called, its unit, what it says and which way is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]
Place = Literal["headline", "mlflow", "tables"]
ANY = (-math.inf, math.inf)
SHARE = (0.0, 1.0)
POSITIVE = (0.0, math.inf)


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
        place: the first place where it is told. `headline`: the terminal's table, the head of pages, and a
            prompt at a time in MLflow; `mlflow`: a chart there; `tables`: metrics.json, summary.csv and the
            page, so that MLflow's charts stay few.
        within: the least and the most that it can be: no interval reaches further.
    """

    key: str
    name: str
    says: str
    unit: str = ""
    decimals: int = 3
    better: Better | None = None
    per_sample: str | None = None
    place: Place = "mlflow"
    within: tuple[float, float] = ANY

    def tell(self, value: float | None) -> str:
        """The number as it is shown; a dash where there is none."""
        return "–" if value is None else f"{value:,.{self.decimals}f}".replace("-", "−")


def _of_samples(
    key: str,
    name: str,
    says: str,
    better: Better | None = None,
    decimals: int = 3,
    place: Place = "mlflow",
    column: str = "",
    within: tuple[float, float] = POSITIVE,
) -> Metric:
    """A metric that each sample has, in a column of its name if no other is named."""
    return Metric(key, name, says, "", decimals, better, column or key.partition("/")[2], place, within)


METRICS: tuple[Metric, ...] = (
    Metric("latency/ttft_p50_ms", "TTFT", "text in to first token out, median", "ms", 1, "lower",
           place="headline"),
    Metric("latency/ttft_p95_ms", "TTFT p95", "text in to first token out, 95th percentile", "ms", 1, "lower",
           place="tables"),
    Metric("latency/itl_p50_ms", "ITL", "time between tokens, median", "ms", 2, "lower", place="headline"),
    Metric("latency/itl_p95_ms", "ITL p95", "time between tokens, 95th percentile", "ms", 2, "lower"),
    Metric("latency/total_p50_ms", "total", "time of a whole run, median", "ms", 1, "lower"),
    Metric("latency/total_p95_ms", "total p95", "time of a whole run, 95th percentile", "ms", 1, "lower",
           place="tables"),
    Metric("throughput/tokens_per_s", "tok/s", "tokens over the time of a run, median", "", 0, "higher",
           place="headline"),
    Metric("throughput/decode_tokens_per_s", "decode tok/s", "tokens after the first over their time, median",
           "", 0, "higher", place="tables"),
    Metric("throughput/sweep_tokens_per_s", "sweep tok/s", "tokens over time, of all points decoded together",
           "", 0, "higher"),
    _of_samples("probability/mean_logprob", "logprob", "mean raw logprob of the chosen tokens, nats",
                place="headline", within=(-math.inf, 0.0)),
    _of_samples("probability/mean_warped_logprob", "warped logprob",
                "mean warped logprob of the chosen tokens, nats", place="tables", within=(-math.inf, 0.0)),
    _of_samples("probability/perplexity", "perplexity", "exp of minus the mean logprob", None, 2, "tables"),
    _of_samples("probability/mean_entropy", "entropy", "mean entropy of the raw distributions, nats"),
    _of_samples("probability/mean_warped_entropy", "warped entropy",
                "mean entropy of the warped distributions, nats", place="tables"),
    _of_samples("probability/not_top_share", "not top", "share of steps whose token was not the likeliest",
                within=SHARE),
    _of_samples("probability/kept_mass", "kept mass", "mean raw probability of what truncation left",
                within=SHARE),
    _of_samples("probability/surprise_share", "surprises",
                "share of steps whose surprisal is over 3 nats above the entropy", decimals=4, within=SHARE),
    _of_samples("text/distinct_1", "dist-1", "distinct words over all", "higher", place="tables",
                within=SHARE),
    _of_samples("text/distinct_2", "dist-2", "distinct word pairs over all", "higher", place="headline",
                within=SHARE),
    _of_samples("text/distinct_3", "dist-3", "distinct word triples over all", "higher", place="tables",
                within=SHARE),
    _of_samples("text/repeated_4", "rep-4", "share of 4-word sequences that stood there before", "lower",
                place="headline", within=SHARE),
    _of_samples("text/longest_repeat", "longest repeat", "words of the longest sequence found twice",
                "lower", 1, "tables"),
    _of_samples("text/compression_ratio", "compression", "bytes over bytes compressed", "lower",
                place="tables"),
    _of_samples("text/looped_share", "looped", "share of texts that ran into a loop", "lower",
                column="looped", within=SHARE),
    _of_samples("text/self_bleu", "self-BLEU", "BLEU of a text against its prompt's others", "lower", 1,
                within=(0.0, 100.0)),
    _of_samples("text/output_tokens", "tokens", "mean tokens of a text", decimals=0, place="headline"),
    _of_samples("text/words", "words", "mean words of a text", decimals=0, place="tables"),
    _of_samples("text/eos_share", "eos", "share of texts that ended by themselves", column="eos",
                within=SHARE),
    _of_samples("text/cut_share", "cut", "share of texts that the budget cut", place="tables", column="cut",
                within=SHARE),
    _of_samples("reference/chrf", "chrF", "F-score of character n-grams against the reference", "higher", 1,
                within=(0.0, 100.0)),
    Metric("reference/bleu", "BLEU", "all texts together against their references", "", 1, "higher"),
    _of_samples("reference/sentence_bleu", "sentence BLEU", "mean BLEU of a text against its reference",
                "higher", 1, "tables", within=(0.0, 100.0)),
    _of_samples("reference/rouge_l", "ROUGE-L", "F-score of the longest word sequence in common", "higher",
                within=SHARE),
    _of_samples("reference/exact_match", "exact", "share of texts that are their reference", "higher",
                within=SHARE),
    Metric("memory/weights_mb", "weights", "the model's weights", "MB", 0, "lower"),
    Metric("memory/peak_mb", "peak", "most memory of the device while decoding", "MB", 0, "lower"),
    Metric("drift/kl_mean", "KL", "mean KL divergence from the reference on its texts", "nats", 5, "lower"),
    Metric("drift/kl_median", "KL p50", "median KL divergence from the reference", "nats", 5, "lower",
           place="tables"),
    Metric("drift/kl_p90", "KL p90", "90th percentile of the KL divergence", "nats", 5, "lower",
           place="tables"),
    Metric("drift/kl_p99", "KL p99", "99th percentile of the KL divergence", "nats", 5, "lower"),
    Metric("drift/kl_max", "KL max", "largest KL divergence of a token", "nats", 4, "lower", place="tables"),
    Metric("drift/same_top", "same top", "tokens at which both like the same one best", "", 4, "higher"),
    Metric("drift/same_top_clear", "same clear top", "the same where the reference's best leads by over 0.05",
           "", 4, "higher", place="tables"),
    Metric("drift/rms_dp", "RMS Δp", "root mean square change of the token's probability", "", 4, "lower"),
    Metric(
        "drift/perplexity_ratio", "PPL ratio", "perplexity of the reference's texts over its own", "", 5,
        "lower",
    ),
    Metric("drift/parted", "parted", "texts that part from the reference's own", "", 3, "lower"),
    Metric("drift/first_divergence", "parts at", "median step at which texts part", "", 0, "higher"),
    Metric("drift/text_perplexity", "text PPL", "perplexity of the fixed text", "", 3, "lower"),
    Metric("drift/text_bits_per_byte", "bits/byte", "bits a byte of the fixed text", "", 4, "lower",
           place="tables"),
    Metric("memory/cache_bytes_per_token", "cache", "key-value cache of a token", "bytes", 0, "lower",
           place="tables"),
    Metric("latency/load_seconds", "load", "time to load the model", "s", 2, "lower", place="tables"),
)  # fmt: skip
"""In the order in which they are shown; a metric that is not here is known by its key alone."""

HEADLINES: tuple[Metric, ...] = tuple(metric for metric in METRICS if metric.place == "headline")
"""The few that stand in tables."""

_BY_KEY = {metric.key: metric for metric in METRICS}


def metric_of(key: str, own: Mapping[str, Metric] | None = None) -> Metric:
    """What is known about a metric: from the catalogue, else from `own` (see `described`), else its key."""
    return _BY_KEY.get(key) or (own or {}).get(key) or Metric(key, key.rpartition("/")[2], key)


def described(known: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics of one's own of a metrics.json by key, as their functions described themselves."""
    return {facts["key"]: Metric(**facts) for facts in known.get("own", ())}


def description(own: Iterable[Metric]) -> list[dict[str, Any]]:
    """The entry `own` of a metrics.json, which `described` reads."""
    entries = [asdict(metric) for metric in own]
    return [{name: value for name, value in entry.items() if name != "within"} for entry in entries]


def in_order(keys: Iterable[str]) -> list[str]:
    """Keys of metrics as they are shown: in the order of the catalogue, then the others by name."""
    known = set(keys)
    return [key for key in _BY_KEY if key in known] + sorted(known - _BY_KEY.keys())
