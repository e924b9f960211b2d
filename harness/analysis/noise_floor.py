"""The noise floor of a point: how far its metrics change when it is run again, or in other batches.

The point's strategy is decoded three times over some of its prompts: together, together again, and one prompt
at a time; and it is timed once more. A difference between points that is smaller than these changes may come
from the machine, not from the strategies. In exact arithmetic the samples would not change at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from harness.analysis.metric_catalog import METRICS

PROMPTS = 2
"""Number of prompts that are decoded again: alone, each takes as many steps as the whole sweep."""


def mean_metrics(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return metrics by key: the mean over samples of each column of the catalogue."""
    from harness.analysis.metrics.point_metrics import finite_mean

    means = {
        metric.key: finite_mean(sample.get(metric.per_sample or "", math.nan) for sample in samples)
        for metric in METRICS
    }
    return {key: mean for key, mean in means.items() if math.isfinite(mean)}


def changes(first: Mapping[str, float], others: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return, by metric key, the largest absolute change from `first` to any of the others."""
    runs = list(others)
    differences = {key: [abs(run[key] - value) for run in runs if key in run] for key, value in first.items()}
    return {key: max(found) for key, found in differences.items() if found}
