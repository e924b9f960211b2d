"""What each precision costs: drift beside memory and speed, the Pareto front, and whether rankings stay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.analysis.point_results import PointResult
from harness.analysis.ranks import kendall, spearman

PRICES = (
    "memory/weights_mb",
    "memory/cache_bytes_per_token",
    "memory/peak_mb",
    "latency/load_seconds",
    "latency/ttft_p50_ms",
    "latency/itl_p50_ms",
    "throughput/tokens_per_s",
)
"""What a precision is paid in; of a quantization, the mean over its points."""
FRONT = ("drift/kl_mean", "memory/weights_mb", "latency/itl_p50_ms")
"""The less the better; those that not every quantization has are left out of the front."""
LEAST_STRATEGIES = 3
_NOT_RANKED = ("drift/", "memory/", "latency/load", "throughput/sweep")


@dataclass(frozen=True)
class Cost:
    """One quantization of a model: what it costs in drift, and what it takes.

    Attributes:
        model, prompts, quantization: whose it is.
        reference: the quantization it is held against; None for a reference and where there is none.
        metrics: `drift/...` and PRICES, the mean over its points; `drift/kl_max` the largest.
        labels: of its points.
        on_front: whether no other quantization of the model is as good in all of FRONT and better in one;
            None where there are fewer than two to choose from.
    """

    model: str
    prompts: str
    quantization: str
    reference: str | None
    metrics: Mapping[str, float]
    labels: tuple[str, ...]
    on_front: bool | None = None


@dataclass(frozen=True)
class Agreement:
    """Whether decoding strategies are ranked alike in two precisions.

    Attributes:
        model, prompts, reference, quantization: of the two.
        metric: by which strategies are ranked.
        strategies: how many are ranked.
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
    """What a sweep says about precision; empty where none of its points is held against another.

    Attributes:
        costs: a row a model, prompt set and quantization, references among them.
        front: the metrics of the Pareto front.
        agreements: the worst first.
    """

    costs: tuple[Cost, ...] = ()
    front: tuple[str, ...] = ()
    agreements: tuple[Agreement, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.costs)

    def as_json(self) -> dict[str, Any]:
        """drift.json of a sweep."""
        return asdict(self)


def precision_report(points: Sequence[PointResult]) -> PrecisionReport:
    """The report of a sweep's points."""
    by_id = {p.point.point_id: p for p in points if p.stored}
    against = {p.point.label: by_id[r] for p in points if (r := _reference_of(p)) in by_id}
    if not against:
        return PrecisionReport()
    groups: dict[tuple[str, str, str], list[PointResult]] = {}
    for p in points:
        if p.stored:
            groups.setdefault((p.point.model, p.point.prompts, p.point.quantization), []).append(p)
    costs = [
        _cost(
            key, some, {against[p.point.label].point.quantization for p in some if p.point.label in against}
        )
        for key, some in groups.items()
    ]
    involved = {(c.model, c.prompts) for c in costs if c.reference}
    costs = [cost for cost in costs if (cost.model, cost.prompts) in involved]
    fronts, used = _with_fronts(costs)
    agreements = [
        found for cost in costs if cost.reference is not None for found in _agreements(cost, groups, against)
    ]
    agreements.sort(key=lambda a: (a.kendall, a.metric))
    return PrecisionReport(tuple(fronts), used, tuple(agreements))


def _reference_of(p: PointResult) -> str | None:
    return p.stored.parts().get("drift", {}).get("reference") if p.stored else None


def _cost(key: tuple[str, str, str], points: Sequence[PointResult], references: set[str]) -> Cost:
    names = [name for name in dict.fromkeys(n for p in points for n in p.metrics)
             if name.startswith("drift/") or name in PRICES]  # fmt: skip
    metrics = {}
    for name in names:
        values = [p.metrics[name] for p in points if name in p.metrics]
        metrics[name] = max(values) if name == "drift/kl_max" else math.fsum(values) / len(values)
    labels = tuple(p.point.label for p in points)
    return Cost(*key, next(iter(sorted(references)), None), metrics, labels)


def _with_fronts(costs: Sequence[Cost]) -> tuple[list[Cost], tuple[str, ...]]:
    """Each with its place on its model's front; a reference has no drift, by its own measure."""

    def values(cost: Cost) -> dict[str, float]:
        own = {"drift/kl_mean": 0.0} if cost.reference is None else {}
        return own | {name: cost.metrics[name] for name in FRONT if name in cost.metrics}

    used = tuple(name for name in FRONT if all(name in values(cost) for cost in costs))
    found = []
    for cost in costs:
        rivals = [c for c in costs if (c.model, c.prompts) == (cost.model, cost.prompts)]
        own = [values(cost)[name] for name in used]
        beaten = any(beats([values(rival)[name] for name in used], own) for rival in rivals)
        on_front = None if len(rivals) < 2 or len(used) < 2 else not beaten
        found.append(Cost(**{**vars(cost), "on_front": on_front}))
    return found, used


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the first is nowhere worse and somewhere better, less being better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(
        a < b for a, b in zip(one, other, strict=True)
    )


def _agreements(
    cost: Cost,
    groups: Mapping[tuple[str, str, str], Sequence[PointResult]],
    against: Mapping[str, PointResult],
) -> list[Agreement]:
    pairs = [
        (against[p.point.label], p)
        for p in groups[cost.model, cost.prompts, cost.quantization]
        if p.point.label in against
    ]
    names = dict.fromkeys(name for _, p in pairs for name in p.metrics if not name.startswith(_NOT_RANKED))
    found = []
    for name in names:
        both = [
            (r.metrics[name], p.metrics[name]) for r, p in pairs if name in r.metrics and name in p.metrics
        ]
        if len(both) < LEAST_STRATEGIES:
            continue
        before, after = zip(*both, strict=True)
        rho, tau = spearman(before, after), kendall(before, after)
        if rho is not None and tau is not None:
            found.append(
                Agreement(
                    cost.model,
                    cost.prompts,
                    cost.reference or "",
                    cost.quantization,
                    name,
                    len(both),
                    rho,
                    tau,
                )
            )
    return found
