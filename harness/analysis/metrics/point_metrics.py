"""A point's metrics from those of its samples: metrics.json, values only, no tables."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.analysis.latency import latency_metrics
from harness.analysis.metric_catalog import METRICS, Metric, metrics_to_json
from harness.analysis.metrics.bleu import bleu_score, no_counts
from harness.analysis.metrics.probability import no_steps, probability_metrics
from harness.store.records import Repetition


@dataclass
class SampleMetrics:
    """The metrics of a point's samples, in their order.

    Attributes:
        prompt_id: one entry a sample; the samples of a prompt follow each other.
        columns: by column of generations.parquet, one value a sample; NaN where a sample has none.
        steps: `step_sums` over all of them.
        bleu: `bleu_counts` over all samples whose prompt has a reference.
    """

    prompt_id: list[str] = field(default_factory=list)
    columns: dict[str, array[float]] = field(default_factory=dict)
    steps: np.ndarray = field(default_factory=no_steps)
    bleu: np.ndarray = field(default_factory=no_counts)

    def add(self, prompt_id: str, values: Mapping[str, float]) -> None:
        """Append a sample with a value of each metric that it has."""
        for name in (name for name in values if name not in self.columns):
            self.columns[name] = array("d", [math.nan]) * len(self.prompt_id)
        for name, column in self.columns.items():
            column.append(values.get(name, math.nan))
        self.prompt_id.append(prompt_id)


def point_metrics(
    samples: SampleMetrics,
    repetitions: Sequence[Repetition],
    run_metrics: Mapping[str, float],
    custom: Sequence[Metric] = (),
) -> dict[str, Any]:
    """Return a point's metrics.json; all its numbers are finite.

    `run_metrics` are further metrics, by key; `custom` the custom metrics among the columns.

    Returns:
        `metrics`: flat, `section/name`; `intervals`: low and high of some of them; `per_prompt`: lists over
        the prompts, means over their samples, in the order of `per_prompt["prompt_id"]`; `own`: the entries
        of the custom metrics.
    """
    present = [metric for metric in (*METRICS, *custom) if metric.per_sample in samples.columns]
    metrics = {metric.key: finite_mean(samples.columns[str(metric.per_sample)]) for metric in present}
    # Means over all steps, not over samples.
    metrics |= {f"probability/{name}": mean for name, mean in probability_metrics(samples.steps).items()}
    if "sentence_bleu" in samples.columns:
        metrics["reference/bleu"] = bleu_score(samples.bleu, sentence=False)
    latency, intervals = latency_metrics(repetitions)
    metrics |= {**latency, **run_metrics}
    return {
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "intervals": {name: list(interval) for name, interval in intervals.items()},
        "per_prompt": _per_prompt(samples, present),
        "own": metrics_to_json(custom),
    }


def _per_prompt(samples: SampleMetrics, metrics: Sequence[Metric]) -> dict[str, list[Any]]:
    indices: dict[str, list[int]] = {}
    for i, prompt in enumerate(samples.prompt_id):
        indices.setdefault(prompt, []).append(i)
    per_prompt: dict[str, list[Any]] = {"prompt_id": list(indices)}
    for metric in metrics:
        values = samples.columns[str(metric.per_sample)]
        means = [finite_mean(values[i] for i in of_prompt) for of_prompt in indices.values()]
        per_prompt[metric.key] = [mean if math.isfinite(mean) else None for mean in means]
    return per_prompt


def finite_mean(values: Iterable[float]) -> float:
    """Return the mean of the finite values; NaN without any."""
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan
