"""Metrics of samples and points: pure functions, each with its definition.

A sample's metrics are columns of generations.parquet; a point's are means over its samples (probability
metrics: over all its tokens) and go to metrics.json in sections.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.results.latency import latency_metrics
from harness.results.records import Repetition, Sample

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and punctuation marks of a text, lower case; what the n-gram metrics count."""
    return _WORD.findall(text.lower())


def distinct_n(text: str, n: int) -> float:
    """Distinct n-grams of words over all n-grams (Li et al. 2016, arXiv:1510.03055); NaN without any."""
    tokens = words(text)
    grams = list(zip(*(tokens[offset:] for offset in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else math.nan


def sample_metrics(sample: Sample, output: str) -> dict[str, float]:
    """What the metrics add to a sample's row."""
    return {f"distinct_{n}": distinct_n(output, n) for n in (1, 2, 3)}


def mean_logprob(sample: Sample) -> float:
    """Mean raw log-probability of the sample's tokens, nats."""
    return float(sample.steps.logprob.astype(np.float64).mean())


GENERATION_COLUMNS = (
    "prompt_id",
    "finish_reason",
    "output_tokens",
    "mean_logprob",
    "distinct_1",
    "distinct_2",
    "distinct_3",
)
STEP_COLUMNS = ("logprob", "warped_logprob", "entropy", "warped_entropy", "rank", "kept_mass")


def point_metrics(
    generations: Mapping[str, Sequence[Any]],
    steps: Iterable[Mapping[str, np.ndarray]],
    repetitions: Sequence[Repetition],
) -> dict[str, Any]:
    """metrics.json of a point.

    Args:
        generations: GENERATION_COLUMNS of its generations table, a value a sample.
        steps: STEP_COLUMNS of its tokens table, some steps at a time; nothing of them is kept.
        repetitions: what was timed.

    Returns:
        `metrics`: flat, `section/name`; `intervals`: low and high of some of them; `per_prompt`:
        lists over the prompts, in the order of `per_prompt["prompt_id"]`.
    """
    metrics = _probability(steps) | _text(generations)
    latency, intervals = latency_metrics(repetitions)
    metrics |= latency
    return {
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "intervals": {name: list(interval) for name, interval in intervals.items()},
        "per_prompt": _per_prompt(generations),
    }


def _probability(steps: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    count = beaten = 0
    sums = dict.fromkeys(STEP_COLUMNS, 0.0)
    for some in steps:
        count += len(some["rank"])
        beaten += int((some["rank"] > 1).sum())
        for name in STEP_COLUMNS:
            sums[name] += float(some[name].sum(dtype=np.float64))
    if not count:
        return {}
    means = {name: total / count for name, total in sums.items()}
    return {
        "probability/mean_logprob": means["logprob"],
        "probability/mean_warped_logprob": means["warped_logprob"],
        "probability/perplexity": math.exp(-means["logprob"]),
        "probability/mean_entropy": means["entropy"],
        "probability/mean_warped_entropy": means["warped_entropy"],
        "probability/not_top_share": beaten / count,
        "probability/kept_mass": means["kept_mass"],
    }


def _text(generations: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    reasons = generations["finish_reason"]
    if not reasons:
        return {}
    metrics = {
        "text/output_tokens": float(np.mean(generations["output_tokens"])),
        "text/eos_share": float(np.mean([reason == "eos" for reason in reasons])),
        "text/cut_share": float(np.mean([reason == "length" for reason in reasons])),
    }
    for n in (1, 2, 3):
        values = [value for value in generations[f"distinct_{n}"] if not math.isnan(value)]
        if values:
            metrics[f"text/distinct_{n}"] = float(np.mean(values))
    return metrics


def _per_prompt(generations: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(generations["prompt_id"]):
        places.setdefault(prompt, []).append(place)

    def over(values: Sequence[float]) -> list[float | None]:
        means = []
        for group in places.values():
            known = [values[place] for place in group if not math.isnan(values[place])]
            means.append(float(np.mean(known)) if known else None)
        return means

    return {
        "prompt_id": list(places),
        "probability/mean_logprob": over(generations["mean_logprob"]),
        "text/output_tokens": over(generations["output_tokens"]),
        "text/distinct_2": over(generations["distinct_2"]),
    }
