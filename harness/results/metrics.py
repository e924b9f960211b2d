"""Metrics of samples and points: pure functions, each with its definition.

A sample's metrics are columns of generations.parquet; a point's are means over its samples (probability
metrics: over all its tokens) and go to metrics.json in sections.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
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


def point_metrics(
    samples: Sequence[Sample], outputs: Sequence[str], repetitions: Sequence[Repetition]
) -> dict[str, Any]:
    """metrics.json of a point.

    Returns:
        `metrics`: flat, `section/name`; `intervals`: low and high of some of them; `per_prompt`:
        lists over the prompts, in the order of `per_prompt["prompt_id"]`.
    """
    metrics: dict[str, float] = {}
    metrics.update(_probability(samples))
    metrics.update(_text(samples, outputs))
    latency, intervals = latency_metrics(repetitions)
    metrics.update(latency)
    return {
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "intervals": {name: list(interval) for name, interval in intervals.items()},
        "per_prompt": _per_prompt(samples, outputs),
    }


def _probability(samples: Sequence[Sample]) -> dict[str, float]:
    steps = [sample.steps for sample in samples if len(sample.steps)]
    if not steps:
        return {}

    def all_of(field: str) -> np.ndarray:
        return np.concatenate([getattr(step, field) for step in steps]).astype(np.float64)

    logprob = all_of("logprob")
    return {
        "probability/mean_logprob": float(logprob.mean()),
        "probability/mean_warped_logprob": float(all_of("warped_logprob").mean()),
        "probability/perplexity": float(np.exp(-logprob.mean())),
        "probability/mean_entropy": float(all_of("entropy").mean()),
        "probability/mean_warped_entropy": float(all_of("warped_entropy").mean()),
        "probability/not_top_share": float((all_of("rank") > 1).mean()),
        "probability/kept_mass": float(all_of("kept_mass").mean()),
    }


def _text(samples: Sequence[Sample], outputs: Sequence[str]) -> dict[str, float]:
    if not samples:
        return {}
    metrics = {
        "text/output_tokens": float(np.mean([len(sample.token_ids) for sample in samples])),
        "text/eos_share": float(np.mean([sample.finish_reason == "eos" for sample in samples])),
        "text/cut_share": float(np.mean([sample.finish_reason == "length" for sample in samples])),
    }
    for n in (1, 2, 3):
        values = [value for output in outputs if not math.isnan(value := distinct_n(output, n))]
        if values:
            metrics[f"text/distinct_{n}"] = float(np.mean(values))
    return metrics


def _per_prompt(samples: Sequence[Sample], outputs: Sequence[str]) -> dict[str, list[Any]]:
    places: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault(sample.prompt_id, []).append(place)

    def over(values: Sequence[float]) -> list[float | None]:
        means = []
        for group in places.values():
            known = [values[place] for place in group if not math.isnan(values[place])]
            means.append(float(np.mean(known)) if known else None)
        return means

    return {
        "prompt_id": list(places),
        "probability/mean_logprob": over([mean_logprob(sample) for sample in samples]),
        "text/output_tokens": over([float(len(sample.token_ids)) for sample in samples]),
        "text/distinct_2": over([distinct_n(output, 2) for output in outputs]),
    }
