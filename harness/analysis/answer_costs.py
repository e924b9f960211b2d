"""Sentences of an answer: what lower precisions cost, and which point is fastest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from harness.analysis.answer_levels import quantization_pairs
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
TOTAL = "latency/total_p50_ms"

_OF_THE_MODEL = (
    ("cost/decode_tokens_per_s", "the tokens per second of the model by itself"),
    ("cost/energy_j_per_token", "its energy per token"),
)

EQUAL = 0.01
"""Memory that differs by less, relative, is not worth a word: of a checkpoint that was dequantized."""

MOST_TIMED = 64
"""Points of which every pair's latencies are compared."""


def quantization_sentences(
    completed: Sequence[PointResult], values: PromptValues, goal: Metric | None, shares: bool
) -> list[Sentence]:
    """Return what each lower precision costs beside its reference: the goal, memory and speed.

    The goal is compared over all strategies of a precision together, paired by prompt.
    """
    pairs = quantization_pairs(completed, {p.point.label: reference_of(p) for p in completed})
    if not pairs:
        return []
    time, what_time = _time_metric(p for some in pairs.values() for pair in some for p in pair)
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
        across = some[0][0].point.model != some[0][1].point.model
        spans += _drift_spans([p for p, _ in some]) if across else []
        for key, what in ((WEIGHTS, "the memory of weights"), (time, what_time), *_OF_THE_MODEL):
            ratios = [
                p.metrics[key] / r.metrics[key] for p, r in some if r.metrics.get(key) and p.metrics.get(key)
            ]
            if ratios and not (across and key == WEIGHTS and abs(ratios[0] - 1) < EQUAL):
                spans.append(f"{float(np.median(ratios)):.2f}x {what}")
        if spans:
            title = f"{model} {name}" if models > 1 else name
            title = model if across and name == "none" else title
            found.append(Sentence(title, (f"vs. {reference_name}: {', '.join(spans)}.",), evidence))
    return found


def _drift_spans(points: Sequence[PointResult]) -> list[str]:
    """Return how far the probabilities of points are from those of their references, the mean over them."""
    spans = []
    for key, form in (("drift/kl_mean", "KL {:.2g} nats"), ("drift/same_top", "same top token at {:.1%}")):
        if values := [p.metrics[key] for p in points if key in p.metrics]:
            spans.append(form.format(float(np.mean(values))))
    return spans


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
    """Return what the best point takes, in time per token and memory, beside the least of all.

    Chosen samples take as many as they were chosen from.
    """
    metrics = next((p.metrics for p in completed if best and p.point.label == best.label), {})
    time, _ = _time_metric(completed)
    per = {ITL: "per token", TOTAL: "per output"}.get(time, "")
    samples = next((p.selected_from for p in completed if best and p.point.label == best.label), 0)
    costs = [f"{samples} samples per prompt"] if samples else []
    for key, what in ((time, per), (WEIGHTS, "of weights")):
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
    key, what = _time_metric(p for p in completed if p.point.label in timed)
    each = what.removeprefix("the ")
    per = "per token" if key == ITL else "per output"
    took = {p.point.label: p.metrics[key] for p in completed if p.point.label in timed and key in p.metrics}
    if not 1 < len(took) <= MOST_TIMED:
        return []
    metric = metric_of(key)
    fastest = min(took, key=lambda label: took[label])
    slower = _slower(fastest, took, timed, key)
    values = sorted(took.values())
    if not slower:
        text = f"no significant difference in {each} between the {len(took)} runs."
        range_text = f"{metric.format(values[0])} to {metric.format(values[-1])} ms {per}"
        return [Sentence("Speed", (text,), range_text)]
    ties = [label for label in took if label != fastest and label not in slower]
    slowest = max(slower, key=lambda label: took[label])
    spans: list[Span] = [Link("point", fastest), f" with {metric.format(took[fastest])} ms {per}"]
    if ties:
        spans += [", no significant difference from ", *listed(ties)]
    ratio = took[slowest] / took[fastest]
    slowdown = f" ({ratio:.{1 if ratio >= 1.05 else 2}f}x)"
    # One that was measured to be slower still may vary too much to differ significantly.
    of_all = took[slowest] == values[-1]
    spans += ["; slowest is " if of_all else "; the slowest that differs significantly is "]
    spans += [Link("point", slowest), f" with {metric.format(took[slowest])}{slowdown}"]
    evidence = "Welch over repetitions, all pairs of runs (Šidák)"
    found = [Sentence("Fastest", (*spans, "."), evidence)]
    if best and best.worse and best.label in took and best.label in slower:
        good = [label for label in best.ties if label in took]
        cheap = min(good, key=lambda label: took[label], default=best.label)
        if took[cheap] < took[best.label] and best.label in _slower(cheap, took, timed, key):
            spans = [
                Link("point", cheap),
                " is not significantly worse than ",
                Link("point", best.label),
                f" and faster: {metric.format(took[cheap])} vs. {metric.format(took[best.label])} ms.",
            ]
            found.append(Sentence("Cheaper", tuple(spans), evidence))
    return found


def _time_metric(points: Iterable[PointResult]) -> tuple[str, str]:
    """Return what times are compared in: per token; per output where some have no time per token (beams)."""
    timed = [p.metrics for p in points if TOTAL in p.metrics or ITL in p.metrics]
    if all(ITL in metrics for metrics in timed):
        return ITL, "the time per token"
    return TOTAL, "the time per output"


def _slower(fast: str, took: Mapping[str, float], timed: Mapping[str, Timed], key: str) -> set[str]:
    """Return the labels that are significantly slower, of all pairs of points."""
    comparisons = len(took) * (len(took) - 1) // 2
    found = set()
    for label in took:
        if label != fast:
            d = latency_differences(timed[label], timed[fast], comparisons).get(key)
            if d and d.p is not None and d.p < LEVEL and d.mean > 0:
                found.add(label)
    return found
