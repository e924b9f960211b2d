"""Compare the points of a sweep, from the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from harness.analysis.answer_sentences import answer_of
from harness.analysis.best_points import best_sets, with_baseline
from harness.analysis.comparison import Cell, Comparison, Difference, metrics_of
from harness.analysis.factors import effects_of
from harness.analysis.latency_differences import (
    MeanDifference,
    difference_at,
    latency_differences,
    read_timed,
)
from harness.analysis.metric_catalog import Metric
from harness.analysis.noise_floor import noise_line
from harness.analysis.pareto_axes import front_of
from harness.analysis.point_results import PointResult, finite_numbers
from harness.analysis.prompt_values import PromptValues, prompt_values
from harness.analysis.sample_table import read_sample_table
from harness.analysis.statistics.simultaneous import simultaneous_intervals
from harness.analysis.statistics.verdicts import verdict_of, word_of
from harness.analysis.swept_keys import swept_keys, trends_of
from harness.analysis.text_overlap import text_overlap
from harness.analysis.value_intervals import Intervals, is_binary, value_intervals
from harness.store.files import read_json
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep

FEW = 20
"""With fewer prompts the intervals of values, which stand alone, are approximate."""

TESTED = (
    "Tested: whether the mean difference over prompts is 0, for all runs and one metric together (max-t of a "
    "joint bootstrap and of sign flips, the wider of both); of latencies, over the repetitions of the timed "
    "prompts (Welch, Šidák)."
)

TESTED_FEW = (
    " Of fewer than 20 prompts it is little more than whether runs could be exchanged: a run with rare "
    "extreme values may pass for a different one."
)
"""Simulated errors are in `statistics/simultaneous.py`."""

_LISTED = 3  # labels in a note

_Key = tuple[str, str]
"""A label and the key of a metric."""


def compare(sweep: Sweep, points: Sequence[PointResult]) -> Comparison:
    """Return the sweep's comparison.

    Points are paired by prompt: of each prompt the means of a point's samples, which share their Gumbel noise
    with those of the other points, are subtracted from each other, and the interval is over prompts.
    Latencies are paired by timed prompt, with an interval over repetitions. Other metrics have only a value.
    The intervals of all points' differences in one metric hold together. A point that is not complete has no
    cells. `sweep.compare` has the baseline, the goal and the metrics of the Pareto front.
    """
    notes: list[str] = []
    completed = [p for p in points if p.stored]
    runs = [p for p in completed if not p.selected_from]
    metrics = metrics_of(completed)
    by_key = {metric.key: metric for metric in metrics}
    baseline = _baseline(sweep, completed, notes)
    columns = [metric.per_sample for metric in metrics if metric.per_sample]
    samples = {p.point.label: read_sample_table(_stored(p), columns) for p in completed}
    values = prompt_values(completed, samples)
    binary = {metric.key for metric in metrics if is_binary(metric, samples.values())}
    intervals = value_intervals(completed, metrics, samples, binary)
    noise = _noise_floor(completed, notes)
    differences: dict[_Key, Difference] = {}
    if baseline is not None and len(completed) > 1:
        found = _sample_differences(baseline, completed, metrics, values, binary, notes)
        found |= _latency_differences(baseline, completed, notes)
        differences = _worded(found, by_key, noise)
    texts = text_overlap([_stored(p) for p in runs])
    if texts.unscored:
        notes.append(f"self-BLEU was not computed for {texts.unscored} prompts: there are too many outputs")
    swept = swept_keys(completed)
    fewest = min((len(p.prompt_ids) for p in completed), default=0)
    trends, interactions = trends_of(swept_keys(runs), values, metrics, binary)
    comparison = Comparison(
        baseline=baseline.point.label if baseline else None,
        metrics=metrics,
        cells={p.point.label: _cells(p, intervals, differences) for p in completed},
        effects=effects_of(completed, list(by_key)),
        front=front_of(sweep, completed, metrics, notes),
        noise=noise,
        disagreement=texts.disagreement,
        self_bleu=texts.self_bleu,
        approximate=0 < fewest < FEW,
        notes=tuple(notes),
        swept=swept,
        trends=trends,
        interactions=interactions,
        best=with_baseline(best_sets(values, metrics, binary), baseline.point.label, differences)
        if baseline
        else {},
        tested=TESTED + TESTED_FEW * (fewest < FEW) if differences else "",
    )
    return replace(comparison, answer=answer_of(sweep, points, comparison, values, samples, binary))


def _stored(p: PointResult) -> StoredPoint:
    assert p.stored is not None
    return p.stored


def _baseline(sweep: Sweep, completed: Sequence[PointResult], notes: list[str]) -> PointResult | None:
    """Return the point that `compare.baseline` names, if it is complete; else the first that is."""
    wanted = sweep.compare.get("baseline")
    for p in completed:
        if p.point.label == wanted:
            return p
    first = completed[0] if completed else None
    if wanted and first:
        notes.append(
            f"compare.baseline={wanted}: that run is not completed; the baseline is {first.point.label}"
        )
    return first


def _cells(p: PointResult, intervals: Intervals, differences: Mapping[_Key, Difference]) -> dict[str, Cell]:
    cells = {}
    for key, value in p.metrics.items():
        where = (p.point.label, key)
        low, high = intervals.bounds.get(where, (None, None))
        cells[key] = Cell(value, low, high, differences.get(where), where in intervals.constant)
    return cells


def _sample_differences(
    baseline: PointResult,
    completed: Sequence[PointResult],
    metrics: Sequence[Metric],
    values: PromptValues,
    binary: Collection[str],
    notes: list[str],
) -> dict[_Key, MeanDifference]:
    """Return the difference of every point from the baseline in each metric that its samples have."""
    found: dict[_Key, MeanDifference] = {}
    others = [p.point.label for p in completed if p is not baseline]
    for metric in metrics:
        if metric.per_sample not in values.means:
            continue
        column = str(metric.per_sample)
        rows = values.of(column, others) - values.of(column, [baseline.point.label])
        family = simultaneous_intervals(rows, metric.key in binary)
        for i, label in enumerate(others):
            if family.count[i]:
                found[label, metric.key] = difference_at(family, i)
    theirs = values.present[values.row_of[baseline.point.label]]
    fewer = [label for label in others if (values.present[values.row_of[label]] != theirs).any()]
    if fewer:
        notes.append(
            f"{_listed(fewer)}: not all prompts are those of the baseline; differences are over the "
            "common prompts"
        )
    return found


def _latency_differences(
    baseline: PointResult, completed: Sequence[PointResult], notes: list[str]
) -> dict[_Key, MeanDifference]:
    """Return the difference of every point from the baseline in each latency."""
    timed = {p.point.label: read_timed(_stored(p)) for p in completed}
    theirs = timed.pop(baseline.point.label)
    comparisons = max(1, sum(1 for times in timed.values() if times))
    found: dict[_Key, MeanDifference] = {}
    timed_differently = []
    for p in completed:
        label = p.point.label
        if p is baseline:
            continue
        latencies = latency_differences(timed[label], theirs, comparisons)
        if timed[label] and theirs and not latencies:
            timed_differently.append(label)
        found |= {(label, key): latencies[key] for key in latencies if key in p.metrics}
    if timed_differently:
        notes.append(
            f"{_listed(timed_differently)}: latencies are not compared with the baseline, since other "
            "prompts, batch sizes or numbers of tokens were timed"
        )
    return found


def _worded(
    found: Mapping[_Key, MeanDifference], metrics: Mapping[str, Metric], noise: Mapping[str, float]
) -> dict[_Key, Difference]:
    """Return the differences within what is possible, and in words."""
    worded = {}
    for (label, key), d in found.items():
        word = word_of(d.mean, d.p)
        least, most = metrics[key].bounds
        width = most - least  # no difference is larger
        worded[label, key] = Difference(
            mean=d.mean,
            low=None if d.low is None else max(-width, d.low),
            high=None if d.high is None else min(width, d.high),
            p=d.p,
            word=word,
            verdict=verdict_of(word, metrics[key].better),
            within_noise=abs(d.mean) <= noise.get(key, -1.0),
            prompts=d.prompts,
        )
    return worded


def _noise_floor(completed: Sequence[PointResult], notes: list[str]) -> dict[str, float]:
    """Return, by metric, how far it moves at most when it is measured again; note it in a line."""
    floor: dict[str, float] = {}
    records = [read_json(_stored(p).path("noise.json")) for p in completed]
    line = noise_line(records)
    if line:
        notes.append(line)
    for known in records:
        changes = known.get("metrics") if isinstance(known, dict) else None
        for key, change in finite_numbers(changes if isinstance(changes, dict) else {}).items():
            floor[key] = max(floor.get(key, 0.0), abs(change))
    return floor


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _LISTED
    return ", ".join(labels[:_LISTED]) + (f" and {more} more runs" if more > 0 else "")
