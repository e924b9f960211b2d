"""Sentences of an answer: what lower precisions cost, and which point is fastest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.analysis.drift_costs import reference_of
from harness.analysis.latency_differences import (
    MeanDifference,
    Timed,
    difference_at,
    latency_differences,
    read_timed,
)
from harness.analysis.metric_catalog import Metric, metric_of
from harness.analysis.point_results import PointResult
from harness.analysis.prompt_values import PromptValues
from harness.analysis.sentence import Link, Sentence, Span, listed
from harness.analysis.statistics.simultaneous import LEVEL, simultaneous_intervals
from harness.analysis.swept import BestSet

ITL = "latency/itl_p50_ms"
WEIGHTS = "memory/weights_mb"
PEAK = "memory/peak_mb"

MOST_TIMED = 64
"""Points of which every pair's latencies are compared."""


def quantization_sentences(
    completed: Sequence[PointResult], values: PromptValues, goal: Metric | None, shares: bool
) -> list[Sentence]:
    """Return what each lower precision costs beside its reference: the goal, memory and speed.

    The goal is compared over all strategies of a precision together, paired by prompt.
    """
    by_id = {p.point.point_id: p for p in completed}
    pairs: dict[tuple[str, str, str], list[tuple[PointResult, PointResult]]] = {}
    for p in completed:
        reference = by_id.get(reference_of(p) or "")
        if reference:
            compared = (p.point.model, reference.point.quantization, p.point.quantization)
            pairs.setdefault(compared, []).append((p, reference))
    if not pairs:
        return []
    models = len({key[0] for key in pairs})
    losses = _goal_differences(pairs, values, goal, shares)
    found = []
    for (model, reference_name, name), some in pairs.items():
        spans = []
        evidence = f"{len(some)} strateg{'y' if len(some) == 1 else 'ies'}"
        loss = losses.get((model, reference_name, name))
        if goal and loss:
            significant = loss.p is not None and loss.p < LEVEL
            sign = "+" if loss.mean > 0 else ""
            verdict = "" if significant else " (no significant difference)"
            spans.append(f"{goal.name} {sign}{goal.format(loss.mean)}{verdict}")
            bounds = "" if loss.low is None else f" [{goal.format(loss.low)}, {goal.format(loss.high)}]"
            evidence = (
                f"{goal.name} {sign}{goal.format(loss.mean)}{bounds}, {loss.prompts} prompts, {evidence}"
            )
        for key, what in ((WEIGHTS, "the memory of weights"), (ITL, "the time per token")):
            ratios = [
                p.metrics[key] / r.metrics[key] for p, r in some if r.metrics.get(key) and p.metrics.get(key)
            ]
            if ratios:
                spans.append(f"{float(np.median(ratios)):.2f}x {what}")
        if spans:
            title = f"{model} {name}" if models > 1 else name
            found.append(Sentence(title, (f"vs. {reference_name}: {', '.join(spans)}.",), evidence))
    return found


def _goal_differences(
    pairs: Mapping[tuple[str, str, str], Sequence[tuple[PointResult, PointResult]]],
    values: PromptValues,
    goal: Metric | None,
    shares: bool,
) -> dict[tuple[str, str, str], MeanDifference]:
    if goal is None or goal.per_sample is None or goal.per_sample not in values.means:
        return {}
    column = goal.per_sample
    rows = [
        np.mean(
            [values.of(column, [p.point.label])[0] - values.of(column, [r.point.label])[0] for p, r in some],
            axis=0,
        )
        for some in pairs.values()
    ]
    found = simultaneous_intervals(np.stack(rows), shares)
    return {key: difference_at(found, i) for i, key in enumerate(pairs) if found.count[i]}


def cost_sentence(completed: Sequence[PointResult], best: BestSet | None) -> Sentence | None:
    """Return what the best point takes, in time per token and memory, beside the least of all."""
    metrics = next((p.metrics for p in completed if best and p.point.label == best.label), {})
    costs = []
    for key, what in ((ITL, "per token"), (WEIGHTS, "of weights"), (PEAK, "at the peak of decoding")):
        if key in metrics:
            metric = metric_of(key)
            least = min(p.metrics[key] for p in completed if key in p.metrics)
            times = (
                f" ({metrics[key] / least:.1f}x the least)" if least and metrics[key] > 1.05 * least else ""
            )
            costs.append(f"{metric.format(metrics[key])} {metric.unit} {what}{times}")
    if best is None or not costs:
        return None
    return Sentence("Cost", (Link("point", best.label), f" takes {', '.join(costs)}."))


def speed_sentences(completed: Sequence[PointResult], best: BestSet | None) -> list[Sentence]:
    """Return which point is fastest, where that is significant, and which equally good one is cheaper."""
    timed = {p.point.label: times for p in completed if p.stored and (times := read_timed(p.stored))}
    itl = {p.point.label: p.metrics[ITL] for p in completed if p.point.label in timed and ITL in p.metrics}
    if not 1 < len(itl) <= MOST_TIMED:
        return []
    metric = metric_of(ITL)
    fastest = min(itl, key=lambda label: itl[label])
    slower = _slower(fastest, itl, timed)
    if not slower:
        text = f"no significant difference in time per token between the {len(itl)} runs."
        values = sorted(itl.values())
        return [
            Sentence(
                "Speed", (text,), f"{metric.format(values[0])} to {metric.format(values[-1])} ms per token"
            )
        ]
    ties = [label for label in itl if label != fastest and label not in slower]
    slowest = max(slower, key=lambda label: itl[label])
    spans: list[Span] = [Link("point", fastest), f" with {metric.format(itl[fastest])} ms per token"]
    if ties:
        spans += [", no significant difference from ", *listed(ties)]
    ratio = itl[slowest] / itl[fastest]
    spans += ["; slowest is ", Link("point", slowest), f" with {metric.format(itl[slowest])} ({ratio:.1f}x)"]
    evidence = "Welch over repetitions, all pairs of runs (Šidák)"
    found = [Sentence("Fastest", (*spans, "."), evidence)]
    if best and best.label in itl and best.label in slower:
        good = [label for label in best.ties if label in itl]
        cheap = min(good, key=lambda label: itl[label], default=best.label)
        if itl[cheap] < itl[best.label] and best.label in _slower(cheap, itl, timed):
            spans = [
                Link("point", cheap),
                " is not significantly worse than ",
                Link("point", best.label),
                f" and faster: {metric.format(itl[cheap])} vs. {metric.format(itl[best.label])} ms.",
            ]
            found.append(Sentence("Cheaper", tuple(spans), evidence))
    return found


def _slower(fast: str, itl: Mapping[str, float], timed: Mapping[str, Timed]) -> set[str]:
    """Return the labels that are significantly slower, of all pairs of points."""
    comparisons = len(itl) * (len(itl) - 1) // 2
    found = set()
    for label in itl:
        if label != fast:
            d = latency_differences(timed[label], timed[fast], comparisons).get(ITL)
            if d and d.p is not None and d.p < LEVEL and d.mean > 0:
                found.add(label)
    return found
