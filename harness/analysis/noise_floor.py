"""The noise floor of a point: how far its metrics move when nothing but chance or company changes.

The point's strategy is decoded three times over some of its prompts: together, together again, and one prompt
at a time; and it is timed once more. A difference between points that is smaller than what this changes tells
of the machine, not of the strategies. In exact arithmetic the samples would not move at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from harness.analysis.metric_catalog import METRICS

PROMPTS = 2
"""How many of a point's prompts are decoded again: alone, one costs as many steps as the whole sweep."""


def mean_metrics(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Metrics by key: the mean over samples of each column that the catalogue knows."""
    means = {}
    for metric in METRICS:
        column = metric.per_sample or ""
        values = [sample[column] for sample in samples if column in sample]
        known = [value for value in values if math.isfinite(value)]
        if known:
            means[metric.key] = math.fsum(known) / len(known)
    return means


def changes(first: Mapping[str, float], others: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """By metric key the largest absolute change from `first` to any of the others."""
    runs = list(others)
    found = {}
    for key, value in first.items():
        moved = [abs(run[key] - value) for run in runs if key in run]
        if moved:
            found[key] = max(moved)
    return found
