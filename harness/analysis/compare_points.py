"""Compare the points of a sweep, from the store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.analysis.comparison import Cell, Comparison, Difference, Front, metrics_of
from harness.analysis.factors import effects_of
from harness.analysis.latency_differences import (
    BY_REPETITION,
    MeanDifference,
    latency_differences,
    read_timed,
)
from harness.analysis.metric_catalog import Metric
from harness.analysis.paired import (
    SampleTable,
    mean_residuals,
    paired_differences,
    read_sample_table,
    same_prompts,
)
from harness.analysis.point_results import PointResult, finite_numbers
from harness.analysis.statistics.bootstrap import mean_intervals, stack_rows
from harness.analysis.statistics.clusters import residual_intervals
from harness.analysis.statistics.multiple_comparisons import holm, verdict_of, word_of
from harness.analysis.statistics.pareto import pareto_front
from harness.analysis.text_overlap import text_overlap
from harness.store.files import read_json
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep

FEW = 20
"""With fewer prompts intervals are approximate."""

_LISTED = 3  # labels in a note

_Key = tuple[str, str]
"""A label and the key of a metric."""


def compare(sweep: Sweep, points: Sequence[PointResult]) -> Comparison:
    """Return the sweep's comparison.

    Samples of two points are paired by prompt and sample, since they share their Gumbel noise; their
    differences are averaged within a prompt, and the interval is over prompts. Latencies are paired by timed
    prompt, with an interval over repetitions. Other metrics have only a value. p-values are corrected over
    all differences of the sweep. A point that is not complete has no cells. `sweep.compare` has the baseline
    and the metrics of the Pareto front.
    """
    notes: list[str] = []
    completed = [p for p in points if p.stored]
    metrics = metrics_of(completed)
    by_key = {metric.key: metric for metric in metrics}
    baseline = _baseline(sweep, completed, notes)
    columns = [metric.per_sample for metric in metrics if metric.per_sample]
    samples = {p.point.label: read_sample_table(_stored(p), columns) for p in completed}
    intervals = _intervals(completed, metrics, samples)
    noise = _noise_floor(completed)
    differences: dict[_Key, Difference] = {}
    approximate = 0 < min((len(p.prompt_ids) for p in completed), default=0) < FEW
    if baseline is not None and len(completed) > 1:
        uncorrected = _differences(baseline, completed, metrics, samples, notes)
        differences = _corrected(uncorrected, by_key, noise)
        paired = [d.prompts for (_, key), d in uncorrected.items() if key not in BY_REPETITION]
        approximate = min(paired, default=0 if approximate else FEW) < FEW
    texts = text_overlap([_stored(p) for p in completed])
    if texts.unscored:
        notes.append(f"self-BLEU was not computed for {texts.unscored} prompts: there are too many outputs")
    cells: dict[str, dict[str, Cell]] = {}
    for p in completed:
        cells[p.point.label] = row = {}
        for key, value in p.metrics.items():
            low, high = intervals.get((p.point.label, key), (None, None))
            row[key] = Cell(value, low, high, differences.get((p.point.label, key)))
    return Comparison(
        baseline=baseline.point.label if baseline else None,
        metrics=metrics,
        cells=cells,
        effects=effects_of(completed, list(by_key)),
        front=_front(sweep, completed, by_key, notes),
        noise=noise,
        disagreement=texts.disagreement,
        self_bleu=texts.self_bleu,
        approximate=approximate,
        notes=tuple(notes),
    )


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


def _intervals(
    completed: Sequence[PointResult], metrics: Sequence[Metric], samples: Mapping[str, SampleTable]
) -> dict[_Key, tuple[float, float]]:
    """Return the stored intervals (latencies) and those of means of samples."""
    found: dict[_Key, tuple[float, float]] = {}
    means = {}
    for p in completed:
        label, mine = p.point.label, samples[p.point.label]
        found |= {(label, key): interval for key, interval in p.intervals.items()}
        for metric in metrics:
            if metric.per_sample not in mine.columns or metric.key not in p.metrics:
                continue
            # Probability metrics are means over all tokens.
            weights = mine.tokens if metric.key.startswith("probability/") else None
            value = p.metrics[metric.key]
            residuals = mean_residuals(value, mine, str(metric.per_sample), weights)
            if residuals is not None:
                means[label, metric.key] = (value, residuals, metric.bounds)
    intervals = zip(means, residual_intervals(list(means.values())), strict=True)
    return found | {key: interval for key, interval in intervals if interval is not None}


def _differences(
    baseline: PointResult,
    completed: Sequence[PointResult],
    metrics: Sequence[Metric],
    samples: Mapping[str, SampleTable],
    notes: list[str],
) -> dict[_Key, MeanDifference]:
    """Return the difference of every point from the baseline, before the correction."""
    found: dict[_Key, MeanDifference] = {}
    rows: dict[_Key, np.ndarray] = {}
    fewer_prompts, timed_differently = [], []
    theirs, their_times = samples[baseline.point.label], read_timed(_stored(baseline))
    for p in completed:
        label = p.point.label
        if p is baseline:
            continue
        other_set = p.point.prompts != baseline.point.prompts
        allowed = same_prompts(_stored(p), _stored(baseline)) if other_set else None
        shared, differences = paired_differences(samples[label], theirs, allowed)
        if shared < max(len(p.prompt_ids), len(baseline.prompt_ids)):
            fewer_prompts.append(label)
        for metric in metrics:
            row = differences.get(metric.per_sample or "")
            if row is not None and np.isfinite(row).any():
                rows[label, metric.key] = row
        times = read_timed(_stored(p))
        latencies = latency_differences(times, their_times)
        if times and their_times and not latencies:
            timed_differently.append(label)
        found |= {(label, key): latencies[key] for key in latencies if key in p.metrics}
    means = mean_intervals(stack_rows(list(rows.values())))
    for i, key in enumerate(rows):
        low, high, p_value = (
            float(side[i]) if math.isfinite(side[i]) else None for side in (means.low, means.high, means.p)
        )
        found[key] = MeanDifference(float(means.mean[i]), low, high, p_value, int(means.count[i]))
    if fewer_prompts:
        notes.append(
            f"{_listed(fewer_prompts)}: not all prompts are those of the baseline; differences are over the "
            "common prompts"
        )
    if timed_differently:
        notes.append(
            f"{_listed(timed_differently)}: latencies are not compared with the baseline, since other "
            "prompts, batch sizes or numbers of tokens were timed"
        )
    return found


def _corrected(
    uncorrected: Mapping[_Key, MeanDifference], metrics: Mapping[str, Metric], noise: Mapping[str, float]
) -> dict[_Key, Difference]:
    """Return the differences with p-values corrected over all of them, and their words."""
    corrected = holm(np.array([math.nan if d.p is None else d.p for d in uncorrected.values()]))
    found = {}
    for ((label, key), d), p in zip(uncorrected.items(), corrected, strict=True):
        p_value = float(p) if math.isfinite(p) else None
        word = word_of(d.mean, p_value)
        least, most = metrics[key].bounds
        width = most - least  # no difference is larger
        found[label, key] = Difference(
            mean=d.mean,
            low=None if d.low is None else max(-width, d.low),
            high=None if d.high is None else min(width, d.high),
            p=p_value,
            word=word,
            verdict=verdict_of(word, metrics[key].better),
            within_noise=abs(d.mean) <= noise.get(key, -1.0),
            prompts=d.prompts,
        )
    return found


def _noise_floor(completed: Sequence[PointResult]) -> dict[str, float]:
    """Return, by metric, the largest change at any point from running its strategy again, or alone."""
    floor: dict[str, float] = {}
    for p in completed:
        known = read_json(_stored(p).path("noise.json"))
        changes = known.get("metrics") if isinstance(known, dict) else None
        for key, change in finite_numbers(changes if isinstance(changes, dict) else {}).items():
            floor[key] = max(floor.get(key, 0.0), abs(change))
    return floor


def _front(
    sweep: Sweep, completed: Sequence[PointResult], metrics: Mapping[str, Metric], notes: list[str]
) -> Front | None:
    """Return the front in those of the requested metrics that were measured."""
    wanted = sweep.compare.get("pareto")
    if wanted is None:
        from harness.config.point import Compare

        wanted = Compare().pareto
    measured = [key for key in dict.fromkeys(wanted) if key in metrics]
    if len(measured) < 2:
        return None
    missing = [key for key in wanted if key not in measured]
    if missing:
        notes.append(f"compare.pareto: no run has {', '.join(missing)}; the front is computed without")
    compared = [p for p in completed if all(key in p.metrics for key in measured)]
    if not compared:
        return None
    values = np.array([[p.metrics[key] for key in measured] for p in compared])
    on_front = pareto_front(values, [metrics[key].better != "lower" for key in measured])
    labels = [p.point.label for p in compared]
    return Front(
        metrics=tuple(measured),
        labels=tuple(label for label, on in zip(labels, on_front, strict=True) if on),
        compared=tuple(labels),
    )


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _LISTED
    return ", ".join(labels[:_LISTED]) + (f" and {more} more runs" if more > 0 else "")
