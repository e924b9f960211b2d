"""A point's metrics from those of its samples: metrics.json, values only, no tables."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.analysis.latency import latency_metrics
from harness.analysis.metric_catalog import METRICS, Metric, description
from harness.analysis.metrics.bleu import BleuCounts
from harness.analysis.metrics.probability import STEP_SUMS, probability_metrics
from harness.store.records import Repetition


@dataclass
class Measured:
    """What was measured at the samples of a point, in their order.

    Attributes:
        prompt_id: a value a sample; those of one prompt stand together.
        columns: by column of generations.parquet, a value a sample; NaN where a sample has none.
        steps: `step_sums` over all of them.
        bleu: counts over all samples whose prompt has a reference.
    """

    prompt_id: list[str] = field(default_factory=list)
    columns: dict[str, array[float]] = field(default_factory=dict)
    steps: np.ndarray = field(default_factory=lambda: np.zeros(STEP_SUMS))
    bleu: BleuCounts = field(default_factory=BleuCounts)

    def add(self, prompt_id: str, values: Mapping[str, float]) -> None:
        """One more sample, with a value of each metric that it has."""
        for name in (name for name in values if name not in self.columns):
            self.columns[name] = array("d", [math.nan]) * len(self.prompt_id)
        for name, column in self.columns.items():
            column.append(values.get(name, math.nan))
        self.prompt_id.append(prompt_id)


def point_metrics(
    measured: Measured,
    repetitions: Sequence[Repetition],
    measured_elsewhere: Mapping[str, float],
    own: Sequence[Metric] = (),
) -> dict[str, Any]:
    """metrics.json of a point; all its numbers are finite.

    Args:
        measured: its samples.
        repetitions: what was timed.
        measured_elsewhere: metrics that come from neither, by key.
        own: metrics of one's own among the columns.

    Returns:
        `metrics`: flat, `section/name`; `intervals`: low and high of some of them; `per_prompt`: lists over
        the prompts, means over their samples, in the order of `per_prompt["prompt_id"]`; `own`: what is known
        of metrics of one's own.
    """
    of_samples = [metric for metric in (*METRICS, *own) if metric.per_sample in measured.columns]
    metrics = {metric.key: _mean(measured.columns[str(metric.per_sample)]) for metric in of_samples}
    metrics |= {
        f"probability/{name}": value for name, value in probability_metrics(measured.steps).items()
    }  # over all steps, each counting alike
    if "sentence_bleu" in measured.columns:
        metrics["reference/bleu"] = measured.bleu.score(sentence=False)
    latency, intervals = latency_metrics(repetitions)
    metrics |= {**latency, **measured_elsewhere}
    return {
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "intervals": {name: list(interval) for name, interval in intervals.items()},
        "per_prompt": _per_prompt(measured, of_samples),
        "own": description(own),
    }


def _per_prompt(measured: Measured, metrics: Sequence[Metric]) -> dict[str, list[Any]]:
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(measured.prompt_id):
        places.setdefault(prompt, []).append(place)
    per_prompt: dict[str, list[Any]] = {"prompt_id": list(places)}
    for metric in metrics:
        values = measured.columns[str(metric.per_sample)]
        means = [_mean(values[place] for place in group) for group in places.values()]
        per_prompt[metric.key] = [mean if math.isfinite(mean) else None for mean in means]
    return per_prompt


def _mean(values: Iterable[float]) -> float:
    """Mean of the finite ones; NaN without any."""
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan
