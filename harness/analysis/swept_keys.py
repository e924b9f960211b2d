"""Numeric keys that a sweep varies: which they are, and how each metric depends on them, by prompt."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import CHOICES, PointResult
from harness.analysis.prompt_values import PromptValues
from harness.analysis.statistics.bootstrap import mean_intervals
from harness.analysis.statistics.contrasts import curvature, interaction, slope
from harness.analysis.statistics.simultaneous import LEVEL, Simultaneous, simultaneous_intervals
from harness.analysis.swept import Interaction, Shape, SweptKey, Trend
from harness.config.labels import value_text

NO_QUANTITIES = ("seed", "threads", "batch_rows", "repeats", "warmup", "top_logprobs")
"""Last parts of keys whose values are numbers and no quantities that a metric could depend on."""

NO_SECTIONS = ("engine", "timing", "record", "tracking", "compare", "drift", "speculation")


def swept_keys(points: Sequence[PointResult]) -> tuple[SweptKey, ...]:
    """Return the numeric keys that vary among these points, in the order in which they occur."""
    keys = dict.fromkeys(key for p in points for key in p.point.varied)
    numeric = {key: found for key in keys if len(set((found := _numbers(points, key)).values())) > 1}
    varying = [name for name in CHOICES if len({getattr(p.point, name) for p in points}) > 1]
    group_of = {}
    for p in points:
        others = [f"{k}={value_text(v)}" for k, v in p.point.varied.items() if k not in numeric]
        group_of[p.point.label] = " · ".join([*(str(getattr(p.point, name)) for name in varying), *others])
    return tuple(
        SweptKey(key, tuple(sorted(set(values.values()))), values, group_of)
        for key, values in numeric.items()
    )


def _numbers(points: Sequence[PointResult], key: str) -> dict[str, float]:
    """Return the value of each point that has one; none where the key is no quantity."""
    if key.partition(".")[0] in NO_SECTIONS or key.rpartition(".")[2] in NO_QUANTITIES:
        return {}
    values = {p.point.label: p.point.varied[key] for p in points if key in p.point.varied}
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values.values()):
        return {}
    return {label: float(value) for label, value in values.items()}


def trends_of(
    swept: Sequence[SweptKey], values: PromptValues, metrics: Sequence[Metric], binary: set[str]
) -> tuple[tuple[Trend, ...], tuple[Interaction, ...]]:
    """Return how each metric with samples depends on each swept key, and on each pair of them.

    All questions about one metric (slopes, curvatures, interactions) are one family: their intervals and
    p-values are simultaneous.
    """
    trends: list[Trend] = []
    interactions: list[Interaction] = []
    for metric in metrics:
        if metric.per_sample in values.means:
            ours, theirs = _of_metric(swept, values, metric, metric.key in binary)
            trends += ours
            interactions += theirs
    return tuple(trends), tuple(interactions)


def _of_metric(
    swept: Sequence[SweptKey], values: PromptValues, metric: Metric, shares: bool
) -> tuple[list[Trend], list[Interaction]]:
    rows: list[np.ndarray] = []
    lines = {key.key: _levels(key, swept, values, metric) for key in swept}
    for table in lines.values():
        x = np.array(list(table))
        if len(x) > 1:
            stacked = np.stack(list(table.values()))
            # The weights sum to 0 up to rounding: what is equal at all values has no slope at all.
            stacked = stacked - stacked[0]
            rows.append(slope(x) @ stacked)
            bend = curvature(x)
            if bend is not None:
                rows.append(bend @ stacked)
    products = {
        (a.key, b.key): product
        for a, b in combinations(swept, 2)
        if (product := _product(a, b, values, metric)) is not None
    }
    rows += products.values()
    if not rows:
        return [], []
    found = simultaneous_intervals(np.stack(rows))
    trends, at = [], 0
    for key, table in lines.items():
        if len(table) > 1:
            bend_at = at + 1 if len(table) > 2 else None
            trends.append(_trend(metric, key, table, found, at, bend_at, shares))
            at += 1 if bend_at is None else 2
    interactions = []
    for keys in products:
        low, high, p = _known(found, at)
        interactions.append(Interaction(metric.key, keys, float(found.mean[at]), low, high, p))
        at += 1
    return trends, interactions


def _levels(
    key: SweptKey, swept: Sequence[SweptKey], values: PromptValues, metric: Metric
) -> dict[float, np.ndarray]:
    """Return, by value of the key, (N,) means by prompt over the groups that have all these values.

    A group has everything else in common, other swept keys included. Where groups have different values,
    those that most groups have count. A prompt that a group lacks at any value is NaN.
    """
    groups: dict[tuple[object, ...], dict[float, str]] = defaultdict(dict)
    for label, value in key.value_of.items():
        rest = tuple(other.value_of.get(label) for other in swept if other is not key)
        groups[key.group_of[label], rest][value] = label
    sets = Counter(tuple(sorted(group)) for group in groups.values() if len(group) > 1)
    if not sets:
        return {}
    chosen = max(sets, key=lambda some: (len(some) * sets[some], len(some)))
    whole = [group for group in groups.values() if tuple(sorted(group)) == chosen]
    tables = {v: values.of(str(metric.per_sample), [group[v] for group in whole]) for v in chosen}
    common = np.all([np.isfinite(table).all(axis=0) for table in tables.values()], axis=0)
    if not common.any():
        return {}
    return {v: np.where(common, table.mean(axis=0), np.nan) for v, table in tables.items()}


def _product(a: SweptKey, b: SweptKey, values: PromptValues, metric: Metric) -> np.ndarray | None:
    """Return (N,) the product term of each prompt, mean over the groups that have the grid of both keys."""
    groups: dict[str, dict[tuple[float, float], str]] = defaultdict(dict)
    for label, value in a.value_of.items():
        if label in b.value_of:
            groups[a.group_of[label]][value, b.value_of[label]] = label
    terms = []
    for group in groups.values():
        first, second = (sorted({cell[i] for cell in group}) for i in (0, 1))
        if len(first) > 1 and len(second) > 1 and len(group) == len(first) * len(second):
            x = np.array(list(group))
            table = values.of(str(metric.per_sample), list(group.values()))
            terms.append(interaction(x[:, 0], x[:, 1]) @ table)
    return np.mean(terms, axis=0) if terms else None


def _trend(
    metric: Metric,
    key: str,
    table: Mapping[float, np.ndarray],
    found: Simultaneous,
    at: int,
    bend_at: int | None,
    shares: bool,
) -> Trend:
    x = list(table)
    stacked = np.stack(list(table.values()))
    bands = mean_intervals(stacked)
    low, high, p = _known(found, at)
    bend_p = None if bend_at is None else _known(found, bend_at)[2]
    best, plateau = _best_value(metric, x, stacked, shares)
    return Trend(
        metric=metric.key,
        key=key,
        slope=float(found.mean[at]),
        low=low,
        high=high,
        p=p,
        curvature_p=bend_p,
        shape=_shape(float(found.mean[at]), p, bend_p, x, plateau),
        best=best,
        plateau=plateau,
        means=tuple(
            (value, float(bands.mean[i]), _finite(bands.low[i]), _finite(bands.high[i]))
            for i, value in enumerate(x)
        ),
        prompts=int(np.isfinite(stacked[0]).sum()),
    )


def _shape(
    mean: float, p: float | None, bend_p: float | None, x: Sequence[float], plateau: Sequence[float]
) -> Shape:
    """Return the shape; an optimum where a bend is significant and both ends are significantly worse."""
    bent = bend_p is not None and bend_p < LEVEL
    if bent and plateau and x[0] not in plateau and x[-1] not in plateau:
        return "optimum"
    if p is not None and p < LEVEL:
        return "rises" if mean > 0 else "falls"
    return "curved" if bent else "flat"


def _best_value(
    metric: Metric, x: Sequence[float], stacked: np.ndarray, shares: bool
) -> tuple[float | None, tuple[float, ...]]:
    """Return the value with the best mean, and the values that are not significantly worse."""
    if metric.better is None:
        return None, ()
    gains = stacked if metric.better == "higher" else -stacked
    best = int(np.argmax(np.nanmean(gains, axis=1)))
    first, second = np.triu_indices(len(x), 1)
    pairs = simultaneous_intervals(gains[first] - gains[second], shares)
    worse = {
        int(j if i == best else i)
        for i, j, p in zip(first, second, pairs.p, strict=True)
        if best in (i, j) and p < LEVEL
    }
    return x[best], tuple(value for i, value in enumerate(x) if i not in worse)


def _known(found: Simultaneous, at: int) -> tuple[float | None, float | None, float | None]:
    return _finite(found.low[at]), _finite(found.high[at]), _finite(found.p[at])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
