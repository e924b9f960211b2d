"""Confidence intervals of a point's values, each by itself: of means, of shares, of latencies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.analysis.prompt_values import group_means
from harness.analysis.sample_table import SampleTable, mean_residuals
from harness.analysis.statistics.clusters import residual_intervals
from harness.analysis.statistics.proportions import clustered_wilson


@dataclass(frozen=True)
class Intervals:
    """What is known of values beside themselves, by label and key of the metric.

    Attributes:
        bounds: 95% intervals.
        constant: values that all samples have; they have no interval.
    """

    bounds: Mapping[tuple[str, str], tuple[float, float]]
    constant: frozenset[tuple[str, str]]


def is_binary(metric: Metric, samples: Iterable[SampleTable]) -> bool:
    """Return whether a metric is a share of samples: of a custom one, whether all its values are 0 or 1."""
    if metric.binary or not metric.key.startswith("own/"):
        return metric.binary
    columns = [table.columns[name] for table in samples if (name := str(metric.per_sample)) in table.columns]
    values = np.concatenate([column[np.isfinite(column)] for column in columns]) if columns else np.empty(0)
    return len(values) > 0 and bool(np.isin(values, (0.0, 1.0)).all())


def value_intervals(
    completed: Sequence[PointResult],
    metrics: Sequence[Metric],
    samples: Mapping[str, SampleTable],
    binary: Collection[str],
) -> Intervals:
    """Return the stored intervals (latencies), and those of means and shares of samples, over prompts."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    constant = set()
    means = {}
    for p in completed:
        label, mine = p.point.label, samples[p.point.label]
        found |= {(label, key): interval for key, interval in p.intervals.items()}
        for metric in metrics:
            if metric.per_sample not in mine.columns or metric.key not in p.metrics:
                continue
            where, value = (label, metric.key), p.metrics[metric.key]
            column = mine.columns[str(metric.per_sample)]
            if metric.key in binary:
                found[where] = _share_interval(column, mine)
                continue
            finite = column[np.isfinite(column)]
            if len(finite) > 1 and finite.max() - finite.min() <= 1e-12 * abs(value):
                constant.add(where)
                continue
            # Probability metrics are means over all tokens.
            weights = mine.tokens if metric.key.startswith("probability/") else None
            residuals = mean_residuals(value, mine, str(metric.per_sample), weights)
            if residuals is not None:
                means[where] = (value, residuals, metric.bounds)
    intervals = zip(means, residual_intervals(list(means.values())), strict=True)
    found |= {where: interval for where, interval in intervals if interval is not None}
    return Intervals(found, frozenset(constant))


def _share_interval(column: np.ndarray, table: SampleTable) -> tuple[float, float]:
    prompts = len(table.prompt_ids)
    counts = np.bincount(table.prompt[np.isfinite(column)], minlength=prompts).astype(np.float64)
    return clustered_wilson(np.nan_to_num(group_means(column, table.prompt, prompts)), counts)
