"""Every metric of a point by its key: its display name, unit, description, and which direction is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]
Visibility = Literal["headline", "mlflow", "tables"]
Bounds = tuple[float, float]
SHARE, PERCENT, POSITIVE, NEGATIVE = (0.0, 1.0), (0.0, 100.0), (0.0, math.inf), (-math.inf, 0.0)


@dataclass(frozen=True)
class Metric:
    """What is known about a metric.

    Attributes:
        key: `section/name`, as in metrics.json.
        name: short, for the head of a column.
        description: one line; what it measures.
        unit: beside the name; empty without one.
        decimals: digits after the decimal point when it is shown.
        better: the direction that is better; None where neither is (a mean logprob is a trait, not a merit).
        visibility: where it is shown. `headline`: everywhere, also in the terminal's table, the head of pages
            and by prompt in MLflow; `mlflow`: from MLflow's charts on; `tables`: only in metrics.json,
            summary.csv and the page, so that MLflow has few charts.
        per_sample: the column of generations.parquet with its value for each sample; None without one.
        bounds: its least and greatest possible value, which no interval exceeds.
        binary: whether each sample's value is 0 or 1, so that the metric is a share of samples.
    """

    key: str
    name: str
    description: str
    unit: str = ""
    decimals: int = 3
    better: Better | None = None
    visibility: Visibility = "mlflow"
    per_sample: str | None = None
    bounds: Bounds = (-math.inf, math.inf)
    binary: bool = False

    def format(self, value: float | None) -> str:
        """Return a value as it is shown, without the sign of a zero; a dash for None."""
        return "–" if value is None else f"{value:z,.{self.decimals}f}".replace("-", "−")


def _mean(
    key: str,
    name: str,
    description: str,
    better: Better | None = None,
    decimals: int = 3,
    bounds: Bounds = POSITIVE,
    visibility: Visibility = "mlflow",
    column: str = "",
    binary: bool = False,
) -> Metric:
    """Return a mean over samples of `column`, without it of the column with the metric's name."""
    column = column or key.partition("/")[2]
    return Metric(key, name, description, "", decimals, better, visibility, column, bounds, binary)


def _watermark(key: str, name: str, short: str, column: str, score: str) -> tuple[Metric, ...]:
    """Return the metrics of a detector: `score` says what its plain score is, in `column`."""
    bounds = POSITIVE if column == "mean_score" else SHARE
    share = f"fraction of outputs in which the {name} detector finds its mark at p < 0.01"
    z = f"standard deviations of the {name} score above that of texts without the mark, mean over outputs"
    p = f"probability of so large a {name} score in a text without the mark, mean over outputs"
    found = f"watermark/{key}_detected"
    return (
        _mean(found, f"{name} found", share, "higher", 3, SHARE, "headline", binary=True),
        _mean(f"watermark/{key}_z", f"{name} z", z, "higher", 2, (-math.inf, math.inf)),
        _mean(f"watermark/{key}_p_value", f"{name} p", p, "lower", 4, SHARE, "tables"),
        _mean(f"watermark/{key}_{column}", f"{name} {short}", score, "higher", 4, bounds, "tables"),
    )


METRICS: tuple[Metric, ...] = (
    Metric("latency/ttft_p50_ms", "TTFT", "time to first token, median", "ms", 1, "lower", "headline"),
    Metric("latency/ttft_p95_ms", "TTFT p95", "time to first token, 95th percentile",
           "ms", 1, "lower", "tables"),
    Metric("latency/itl_p50_ms", "ITL", "inter-token latency, median", "ms", 2, "lower", "headline"),
    Metric("latency/itl_p95_ms", "ITL p95", "inter-token latency, 95th percentile", "ms", 2, "lower"),
    Metric("latency/total_p50_ms", "total", "time of a whole request, median", "ms", 1, "lower"),
    Metric("latency/total_p95_ms", "total p95", "time of a whole request, 95th percentile",
           "ms", 1, "lower", "tables"),
    Metric("throughput/tokens_per_s", "tok/s", "tokens per second of a request, median",
           "", 0, "higher", "headline"),
    Metric("throughput/decode_tokens_per_s", "decode tok/s",
           "tokens per second after the first token, median", "", 0, "higher", "tables"),
    Metric("throughput/sweep_tokens_per_s", "sweep tok/s",
           "tokens per second of all runs that were decoded together", "", 0, "higher"),
    Metric("cost/usd", "cost", "what a server charged for the answers", "USD", 6, "lower"),
    Metric("cost/usd_per_1k_tokens", "cost per 1,000", "what a server charged per 1,000 tokens of output",
           "USD", 6, "lower", "tables"),
    Metric("cost/prefill_p50_ms", "model prefill",
           "time to read a prompt of timing.prompt_tokens, the model by itself, median", "ms", 1, "lower"),
    Metric("cost/decode_tokens_per_s", "model tok/s",
           "tokens per second after the first, the model by itself: tokens over mean time",
           "", 1, "higher"),
    Metric("cost/max_allocated_mb", "max allocated",
           "most GPU memory of tensors while the model ran by itself, in 10^6 bytes", "MB", 0, "lower"),
    Metric("cost/max_reserved_mb", "max reserved",
           "most GPU memory of torch's allocator while the model ran by itself, in 10^6 bytes",
           "MB", 0, "lower", "tables"),
    Metric("cost/max_used_mb", "max used",
           "most memory in use while the model ran by itself, on a CPU resident, in 10^6 bytes",
           "MB", 0, "lower"),
    Metric("cost/energy_j_per_token", "J/token",
           "energy per token after the first, the model by itself, idle power included", "J", 3, "lower"),
    Metric("cost/energy_j_prefill", "J/prefill",
           "energy to read the prompts of a batch, the model by itself, idle power included",
           "J", 3, "lower", "tables"),
    Metric("cost/tokens_per_kwh", "tokens/kWh", "tokens after the first per kWh, the model by itself",
           "", 0, "higher", "tables"),
    Metric("energy/j_per_token", "sweep J/token",
           "energy per token of all runs that were decoded together, idle power included", "J", 3, "lower"),
    Metric("requests/retried", "retried", "requests that had to be sent again", "", 0, "lower", "tables"),
    Metric("requests/cut_off", "cut off", "answers that an error cut off", "", 0, "lower", "tables"),
    _mean("probability/mean_logprob", "logprob", "mean logprob of the chosen tokens, by the model, nats",
          None, 3, NEGATIVE, "headline"),
    _mean("probability/mean_warped_logprob", "processed logprob",
          "mean processed logprob of the chosen tokens, nats", None, 3, NEGATIVE, "tables"),
    _mean("probability/perplexity", "perplexity", "exp of minus the mean logprob",
          None, 2, POSITIVE, "tables"),
    _mean("probability/mean_entropy", "entropy", "mean entropy of the model's distributions, nats"),
    _mean("probability/mean_warped_entropy", "processed entropy",
          "mean entropy of the processed distributions, nats", None, 3, POSITIVE, "tables"),
    _mean("probability/not_top_share", "not top", "fraction of steps whose token was not the most likely one",
          None, 3, SHARE),
    _mean("probability/kept_mass", "kept mass", "mean probability (model) of the tokens that truncation kept",
          None, 3, SHARE),
    _mean("probability/surprise_share", "surprises",
          "fraction of steps whose surprisal is over 3 nats above the entropy", None, 4, SHARE),
    _mean("text/distinct_1", "dist-1", "distinct words over all words", "higher", 3, SHARE, "tables"),
    _mean("text/distinct_2", "dist-2", "distinct word bigrams over all", "higher", 3, SHARE, "headline"),
    _mean("text/distinct_3", "dist-3", "distinct word trigrams over all", "higher", 3, SHARE, "tables"),
    _mean("text/repeated_4", "rep-4", "fraction of word 4-grams that occurred before",
          "lower", 3, SHARE, "headline"),
    _mean("text/longest_repeat", "longest repeat", "words of the longest sequence that occurs twice",
          "lower", 1, POSITIVE, "tables"),
    _mean("text/compression_ratio", "compression", "bytes over compressed bytes",
          "lower", 3, POSITIVE, "tables"),
    _mean("text/looped_share", "looped", "fraction of outputs that end stuck in a loop",
          "lower", 3, SHARE, column="looped", binary=True),
    _mean("text/self_bleu", "self-BLEU", "BLEU of an output compared with its prompt's others",
          "lower", 1, PERCENT),
    _mean("text/output_tokens", "tokens", "mean number of tokens of an output",
          None, 0, POSITIVE, "headline"),
    _mean("text/words", "words", "mean number of words of an output", None, 0, POSITIVE, "tables"),
    _mean("text/eos_share", "EOS", "fraction of outputs that ended with EOS", None, 3, SHARE,
          column="eos", binary=True),
    _mean("text/cut_share", "hit max_new_tokens", "fraction of outputs that reached max_new_tokens",
          None, 3, SHARE, "tables", column="cut", binary=True),
    _mean("reference/chrf", "chrF", "F-score of character n-grams compared with the reference",
          "higher", 1, PERCENT),
    Metric("reference/bleu", "BLEU", "corpus BLEU of all outputs and their references", "", 1, "higher"),
    _mean("reference/sentence_bleu", "sentence BLEU", "mean BLEU of an output and its reference",
          "higher", 1, PERCENT, "tables"),
    _mean("reference/rouge_l", "ROUGE-L", "F-score of the longest common subsequence of words",
          "higher", 3, SHARE),
    _mean("reference/exact_match", "exact", "fraction of outputs that equal their reference",
          "higher", 3, SHARE, binary=True),
    _mean("reference/answer_match", "accuracy",
          "fraction of outputs whose answer (compare.answer_pattern) is that of their reference",
          "higher", 3, SHARE, binary=True),
    _mean("quality/valid", "valid", "fraction of outputs that are complete and what they had to be",
          "higher", 3, SHARE, "headline", binary=True),
    _mean("quality/grammar_log_weight", "grammar weight",
          "log of the raw probability that the grammar left, summed over the tokens of an output, nats",
          None, 2, NEGATIVE, "tables"),
    *_watermark("kgw", "KGW", "green", "green_share", "fraction of n-grams that end with a green token"),
    *_watermark("synthid", "SynthID", "g", "weighted_g",
                "mean of the tokens' bits, 0.5 where nothing is marked, first keys weighing most"),
    _mean("watermark/synthid_mean_g", "SynthID mean g", "the same without weights",
          "higher", 4, SHARE, "tables"),
    *_watermark("gumbel", "Gumbel", "score", "mean_score", "mean of -ln(1 - u), 1 where nothing is marked"),
    Metric("preference/win_rate", "win rate",
           "fraction of blind comparisons that it won, ties counting half", "", 2, "higher",
           bounds=SHARE),
    Metric("memory/weights_mb", "weights", "memory of the model's weights", "MB", 0, "lower"),
    Metric("memory/peak_mb", "peak", "peak memory while decoding, of all runs decoded in one batch together",
           "MB", 0, "lower"),
    Metric("drift/kl_mean", "KL", "mean KL divergence from the reference on its outputs", "nats", 5, "lower"),
    Metric("drift/kl_median", "KL p50", "median KL divergence from the reference",
           "nats", 5, "lower", "tables"),
    Metric("drift/kl_p90", "KL p90", "90th percentile of the KL divergence", "nats", 5, "lower", "tables"),
    Metric("drift/kl_p99", "KL p99", "99th percentile of the KL divergence", "nats", 5, "lower"),
    Metric("drift/kl_max", "KL max", "largest KL divergence of a token", "nats", 4, "lower", "tables"),
    Metric("drift/kl_error", "KL error bound", "how far the mean KL may be off, where not all was stored",
           "nats", 5, "lower", "tables"),
    Metric("drift/same_top", "same top", "fraction of tokens at which both have the same most likely token",
           "", 4, "higher"),
    Metric("drift/same_top_clear", "same clear top",
           "the same where the reference's most likely token leads by over 0.05", "", 4, "higher", "tables"),
    Metric("drift/rms_dp", "RMS Δp", "root mean square change of the token's probability", "", 4, "lower"),
    Metric("drift/perplexity_ratio", "PPL ratio",
           "perplexity of the reference's outputs, over that under the reference", "", 5, "lower"),
    Metric("drift/ln_perplexity_ratio", "ln PPL ratio", "logarithm of the perplexity ratio",
           "nats", 5, "lower", "tables"),
    Metric("drift/parted", "diverged", "fraction of outputs that diverge from the reference's",
           "", 3, "lower"),
    Metric("drift/first_divergence", "first divergence",
           "median token at which outputs diverge from the reference's", "", 0, "higher"),
    Metric("drift/text_perplexity", "text PPL", "perplexity of the fixed text", "", 3, "lower"),
    Metric("drift/text_bits_per_byte", "bits/byte", "bits per byte of the fixed text",
           "", 4, "lower", "tables"),
    Metric("speculation/speedup", "speculative speed-up",
           "time of plain decoding over that of speculative decoding, with the draft that is fastest",
           "×", 2, "higher"),
    Metric("speculation/tokens_per_forward", "tokens/forward",
           "tokens per forward pass of the model with that draft", "", 2, "higher"),
    Metric("speculation/acceptance", "accepted", "fraction of that draft's tokens that are accepted",
           "", 3, "higher", bounds=SHARE),
    Metric("speculation/block", "block", "tokens that the draft proposes per forward pass",
           "", 0, None, "tables"),
    Metric("speculation/draft_share", "draft's share", "fraction of the time that is the draft's",
           "", 3, "lower", "tables", bounds=SHARE),
    Metric("speculation/differing", "tokens that differ",
           "tokens of the timed outputs that differ from plain decoding: rounding", "", 0, "lower", "tables"),
    Metric("memory/cache_bytes_per_token", "cache", "key-value cache of one token",
           "bytes", 0, "lower", "tables"),
    Metric("latency/load_seconds", "load", "time to load the model", "s", 2, "lower", "tables"),
)  # fmt: skip
"""In the order in which they are shown; a metric that is not here is shown by its key."""

HEADLINES: tuple[Metric, ...] = tuple(metric for metric in METRICS if metric.visibility == "headline")
"""The few that the terminal's table and the head of pages have."""

_BY_KEY = {metric.key: metric for metric in METRICS}


def metric_of(key: str, custom: Mapping[str, Metric] | None = None) -> Metric:
    """Return a metric's entry in the catalogue, else in `custom`, else one that only has its key."""
    return _BY_KEY.get(key) or (custom or {}).get(key) or Metric(key, key.rpartition("/")[2], key)


_FILE_NAMES = {"description": "says", "visibility": "place"}  # attributes: their names in metrics.json
_ATTRIBUTES = {name: attribute for attribute, name in _FILE_NAMES.items()}


def metrics_from_json(known: Mapping[str, Any]) -> dict[str, Metric]:
    """Return the custom metrics of a metrics.json (its entry `own`) by key."""
    entries = (
        {_ATTRIBUTES.get(name, name): value for name, value in e.items()} for e in known.get("own", ())
    )
    return {entry["key"]: Metric(**entry) for entry in entries}


def metrics_to_json(custom: Iterable[Metric]) -> list[dict[str, Any]]:
    """Return the entry `own` of a metrics.json, which `metrics_from_json` reads."""
    entries = [asdict(metric) for metric in custom]
    return [
        {_FILE_NAMES.get(name, name): e[name] for name in e if name not in ("bounds", "binary")}
        for e in entries
    ]


def in_order(keys: Iterable[str]) -> list[str]:
    """Return keys of metrics as they are shown: in the order of the catalogue, then the others by name."""
    known = set(keys)
    return [key for key in _BY_KEY if key in known] + sorted(known - _BY_KEY.keys())
