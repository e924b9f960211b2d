"""What each quantization costs: drift, memory, speed; the Pareto front; are rankings preserved?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from harness.analysis.metric_catalog import metric_of
from harness.analysis.point_results import PointResult
from harness.analysis.statistics.pareto import pareto_front

PRICES = (
    "memory/weights_mb", "memory/cache_bytes_per_token", "memory/peak_mb", "latency/load_seconds",
    "latency/ttft_p50_ms", "latency/itl_p50_ms", "throughput/tokens_per_s", "energy/j_per_token",
    "cost/prefill_p50_ms", "cost/decode_tokens_per_s", "cost/max_allocated_mb", "cost/max_reserved_mb",
    "cost/max_used_mb", "cost/energy_j_per_token", "cost/energy_j_prefill", "cost/tokens_per_kwh",
)  # fmt: skip
"""The costs of a quantization, each the mean over its points."""
FRONT = (
    ("drift/kl_mean",),
    ("cost/max_allocated_mb", "memory/weights_mb"),
    ("cost/decode_tokens_per_s", "latency/itl_p50_ms"),
    ("cost/energy_j_per_token", "energy/j_per_token"),
)
"""The Pareto front's axes: quality, memory, speed, energy; of each the first that every quantization has."""
LEAST_STRATEGIES = 3
_NOT_RANKED = ("drift/", "memory/", "cost/", "energy/", "latency/load", "throughput/sweep")


@dataclass(frozen=True)
class Cost:
    """The drift of one quantization of a model, and its memory and latency.

    Attributes:
        model, prompts, quantization: the points' choices.
        reference: the quantization it is compared with; None for a reference and where there is none.
        reference_model: the model that it is compared with, where that is another one.
        metrics: `drift/...` and PRICES, the mean over its points; `drift/kl_max` the largest value.
        labels: the points' labels.
        on_front: whether it is Pareto-optimal among the model's quantizations in the metrics of FRONT; None
            where there are fewer than two to compare.
    """

    model: str
    prompts: str
    quantization: str
    reference: str | None
    metrics: Mapping[str, float]
    labels: tuple[str, ...]
    on_front: bool | None = None
    reference_model: str | None = None


@dataclass(frozen=True)
class Agreement:
    """Whether decoding strategies have the same ranking under two quantizations.

    Attributes:
        model, prompts, reference, quantization: the two quantizations, and their model and prompt set.
        metric: the metric that strategies are ranked by.
        strategies: the number of strategies.
        spearman, kendall: -1 (reversed) to 1 (the same).
    """

    model: str
    prompts: str
    reference: str
    quantization: str
    metric: str
    strategies: int
    spearman: float
    kendall: float


@dataclass(frozen=True)
class PrecisionReport:
    """A sweep's quantizations compared; empty where none of its points is compared with a reference.

    Attributes:
        costs: one entry per model, prompt set and quantization, references included.
        front: the metrics of the Pareto front.
        agreements: the lowest first.
    """

    costs: tuple[Cost, ...] = ()
    front: tuple[str, ...] = ()
    agreements: tuple[Agreement, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.costs)

    def as_json(self) -> dict[str, Any]:
        """Return drift.json of a sweep."""
        return asdict(self)


def precision_report(points: Sequence[PointResult]) -> PrecisionReport:
    """Return the report of a sweep's points; rows of chosen samples are none of them."""
    points = [p for p in points if not p.selected_from]
    by_id = {p.point.point_id: p for p in points if p.stored}
    references = {p.point.label: by_id[r] for p in points if (r := reference_of(p)) in by_id}
    if not references:
        return PrecisionReport()
    groups: dict[tuple[str, str, str], list[PointResult]] = {}
    for p in points:
        if p.stored:
            groups.setdefault((p.point.model, p.point.prompts, p.point.quantization), []).append(p)
    costs = [_cost(key, some, references) for key, some in groups.items()]
    involved = {(c.model, c.prompts) for c in costs if c.reference}
    involved |= {(c.reference_model, c.prompts) for c in costs if c.reference_model}
    costs, used = _with_fronts([cost for cost in costs if (cost.model, cost.prompts) in involved])
    agreements = [a for cost in costs if cost.reference for a in _agreements(cost, groups, references)]
    agreements.sort(key=lambda a: (a.kendall, a.metric))
    return PrecisionReport(tuple(costs), used, tuple(agreements))


def reference_of(p: PointResult) -> str | None:
    """Return the id of the point that a quantized point is compared with; None where it is with none."""
    return p.stored.parts().get("drift", {}).get("reference") if p.stored else None


def _cost(
    key: tuple[str, str, str], points: Sequence[PointResult], references: Mapping[str, PointResult]
) -> Cost:
    names = dict.fromkeys(name for p in points for name in p.metrics)
    metrics = {}
    for name in (name for name in names if name.startswith("drift/") or name in PRICES):
        values = [p.metrics[name] for p in points if name in p.metrics]
        metrics[name] = max(values) if name == "drift/kl_max" else math.fsum(values) / len(values)
    labels = tuple(p.point.label for p in points)
    compared_with = [references[label].point for label in labels if label in references]
    reference = min((point.quantization for point in compared_with), default=None)
    other = min((point.model for point in compared_with if point.model != key[0]), default=None)
    return Cost(*key, reference, metrics, labels, reference_model=other)


def _with_fronts(costs: Sequence[Cost]) -> tuple[list[Cost], tuple[str, ...]]:
    """Return each with whether it is on its model's front, and the front's metrics.

    A reference has no drift, by its own measure.
    """

    def values(cost: Cost) -> dict[str, float]:
        reference = {"drift/kl_mean": 0.0} if cost.reference is None else {}
        return reference | dict(cost.metrics)

    measured = ([name for name in axis if all(name in values(cost) for cost in costs)] for axis in FRONT)
    used = tuple(names[0] for names in measured if names)
    higher = [metric_of(name).better == "higher" for name in used]
    on_front: dict[int, bool] = {}
    keys = [(cost.reference_model or cost.model, cost.prompts) for cost in costs]
    for key in dict.fromkeys(keys):
        rivals = [i for i, other in enumerate(keys) if other == key]
        if len(rivals) > 1 and len(used) > 1:
            table = np.array([[values(costs[i])[name] for name in used] for i in rivals])
            on_front |= dict(zip(rivals, pareto_front(table, higher).tolist(), strict=True))
    return [replace(cost, on_front=on_front.get(i)) for i, cost in enumerate(costs)], used


def rank_correlations(values: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """Return Spearman's rho and Kendall's tau-b of two rankings; None where one of them is all ties."""
    if len(set(values)) < 2 or len(set(others)) < 2:
        return None
    from scipy.stats import kendalltau, spearmanr

    return float(spearmanr(values, others).statistic), float(kendalltau(values, others).statistic)


def _agreements(
    cost: Cost,
    groups: Mapping[tuple[str, str, str], Sequence[PointResult]],
    references: Mapping[str, PointResult],
) -> list[Agreement]:
    pairs = [
        (references[p.point.label], p)
        for p in groups[cost.model, cost.prompts, cost.quantization]
        if p.point.label in references
    ]
    names = dict.fromkeys(name for _, p in pairs for name in p.metrics if not name.startswith(_NOT_RANKED))
    found = []
    for name in names:
        both = [
            (r.metrics[name], p.metrics[name]) for r, p in pairs if name in r.metrics and name in p.metrics
        ]
        if len(both) < LEAST_STRATEGIES:
            continue
        if correlations := rank_correlations(*zip(*both, strict=True)):
            identity = (cost.model, cost.prompts, cost.reference or "", cost.quantization)
            found.append(Agreement(*identity, name, len(both), *correlations))
    return found
