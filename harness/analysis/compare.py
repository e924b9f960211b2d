"""Hold the points of a sweep against each other, from what the store has of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.comparison import Cell, Comparison, Difference, Front
from harness.analysis.factors import effects_of
from harness.analysis.latency_differences import latency_differences, read_timed
from harness.analysis.metric_catalog import Metric, in_order, metric_of
from harness.analysis.paired import (
    Samples,
    around,
    paired_differences,
    read_samples,
    same_prompts,
    stacked,
)
from harness.analysis.point_results import PointResult, finite
from harness.analysis.statistics import holm, mean_intervals, pareto_front, verdict_of, word_of
from harness.analysis.text_overlap import text_overlap
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep

FEW = 20
"""Prompts below which an interval is rough."""

_NAMED = 3  # labels in a note


def compare(sweep: Sweep, points: Sequence[PointResult]) -> Comparison:
    """The sweep's comparison.

    Samples of two points are paired by prompt and sample, since they had the same luck; their differences are
    averaged within a prompt, and the interval is over prompts. Latencies are paired by timed prompt, with an
    interval over repetitions. Other metrics have a value only. p-values are corrected over all differences of
    the sweep. A point that is not whole has no cells.

    Args:
        sweep: whose `compare` part names the baseline and the metrics of the Pareto front.
        points: its points as reported.
    """
    notes: list[str] = []
    whole = [p for p in points if p.stored]
    metrics = _metrics_of(whole)
    baseline = _baseline(sweep, whole, notes)
    columns = [metric.per_sample for metric in metrics if metric.per_sample]
    samples = {p.point.label: read_samples(_stored(p), columns) for p in whole}
    intervals = _own_intervals(whole, metrics, samples)
    noise = _noise(whole)
    differences: dict[str, dict[str, Difference]] = {}
    rough = 0 < min((len(p.prompt_ids) for p in whole), default=0) < FEW
    if baseline is not None and len(whole) > 1:
        raw = _against(baseline, whole, metrics, samples, notes)
        differences = _told(raw, {metric.key: metric for metric in metrics}, noise)
        paired = [d.prompts for row in raw.values() for d in row.values() if not d.timed]
        rough = min(paired, default=0 if rough else FEW) < FEW
    differences |= {p.point.label: {} for p in whole if p.point.label not in differences}
    texts = text_overlap([_stored(p) for p in whole])
    if texts.unscored:
        notes.append(f"self-BLEU was not computed for {texts.unscored} prompts: there are too many texts")
    cells = {
        p.point.label: {
            key: _cell(value, intervals.get((p.point.label, key)), differences[p.point.label].get(key))
            for key, value in p.metrics.items()
        }
        for p in whole
    }
    return Comparison(
        baseline=baseline.point.label if baseline else None,
        metrics=metrics,
        cells=cells,
        effects=effects_of(whole, [metric.key for metric in metrics]),
        front=_front(sweep, whole, notes),
        noise=noise,
        disagreement=texts.disagreement,
        self_bleu=texts.self_bleu,
        rough=rough,
        notes=tuple(notes),
    )


def _cell(value: float, interval: tuple[float, float] | None, difference: Difference | None) -> Cell:
    low, high = interval or (None, None)
    return Cell(value, low, high, difference)


def _stored(p: PointResult) -> StoredPoint:
    assert p.stored is not None
    return p.stored


def _metrics_of(points: Sequence[PointResult]) -> tuple[Metric, ...]:
    """Those that any point has: in the order of the catalogue, then the others by name."""
    own = _own(points)
    return tuple(metric_of(key, own) for key in in_order(key for p in points for key in p.metrics))


def _own(points: Sequence[PointResult]) -> dict[str, Metric]:
    """What is known of metrics of one's own."""
    return {key: metric for p in points for key, metric in p.own.items()}


def _baseline(sweep: Sweep, whole: Sequence[PointResult], notes: list[str]) -> PointResult | None:
    """The point that `compare.baseline` names, where it is whole; else the first that is."""
    wanted = sweep.compare.get("baseline")
    for p in whole:
        if p.point.label == wanted:
            return p
    first = whole[0] if whole else None
    if wanted and first:
        notes.append(
            f"compare.baseline={wanted}: that point is not done; the others are held against "
            f"{first.point.label}"
        )
    return first


def _own_intervals(
    whole: Sequence[PointResult], metrics: Sequence[Metric], samples: Mapping[str, Samples]
) -> dict[tuple[str, str], tuple[float, float]]:
    """By label and key: those that the store has (latencies), and those over prompts of means of samples."""
    found, places, rows = {}, [], []
    for p in whole:
        label, mine = p.point.label, samples[p.point.label]
        found.update({(label, key): interval for key, interval in p.intervals.items()})
        for metric in metrics:
            if metric.per_sample not in mine.columns or metric.key not in p.metrics:
                continue
            # Probability metrics are means over all tokens.
            weights = mine.tokens if metric.key.startswith("probability/") else None
            residuals = around(p.metrics[metric.key], mine, str(metric.per_sample), weights)
            if residuals is not None:
                places.append((label, metric, p.metrics[metric.key]))
                rows.append(residuals)
    means = mean_intervals(stacked(rows))
    for (label, metric, value), low, high in zip(places, means.low, means.high, strict=True):
        if math.isfinite(low):
            least, most = metric.bounds
            found[label, metric.key] = (max(least, float(value + low)), min(most, float(value + high)))
    return found


@dataclass(frozen=True)
class _Raw:
    """A difference before it is corrected for the others; `timed` says that it is over repetitions."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    prompts: int
    timed: bool = False


def _against(
    baseline: PointResult,
    whole: Sequence[PointResult],
    metrics: Sequence[Metric],
    samples: Mapping[str, Samples],
    notes: list[str],
) -> dict[str, dict[str, _Raw]]:
    """By label and key, every point against the baseline."""
    found: dict[str, dict[str, _Raw]] = {}
    places, rows = [], []
    fewer, timed_otherwise = [], []
    theirs, their_times = samples[baseline.point.label], read_timed(_stored(baseline))
    for p in whole:
        label = p.point.label
        if p is baseline:
            continue
        found[label] = {}
        other_set = p.point.prompts != baseline.point.prompts
        allowed = same_prompts(_stored(p), _stored(baseline)) if other_set else None
        shared, differences = paired_differences(samples[label], theirs, allowed)
        if shared < max(len(p.prompt_ids), len(baseline.prompt_ids)):
            fewer.append(label)
        for metric in metrics:
            row = differences.get(metric.per_sample or "")
            if row is not None and np.isfinite(row).any():
                places.append((label, metric.key))
                rows.append(row)
        times = read_timed(_stored(p))
        latencies = latency_differences(times, their_times)
        if times and their_times and not latencies:
            timed_otherwise.append(label)
        found[label] |= {key: _Raw(*told, timed=True) for key, told in latencies.items() if key in p.metrics}
    means = mean_intervals(stacked(rows))
    for place, (label, key) in enumerate(places):
        low, high, p_value = (
            float(side[place]) if math.isfinite(side[place]) else None
            for side in (means.low, means.high, means.p)
        )
        found[label][key] = _Raw(float(means.mean[place]), low, high, p_value, int(means.count[place]))
    if fewer:
        notes.append(
            f"not all prompts are those of the baseline at {_listed(fewer)}: differences are over the "
            "prompts that both have"
        )
    if timed_otherwise:
        notes.append(
            f"latencies of {_listed(timed_otherwise)} are not held against the baseline: other prompts, "
            "batch sizes or numbers of tokens were timed"
        )
    return found


def _told(
    raw: Mapping[str, Mapping[str, _Raw]], metrics: Mapping[str, Metric], noise: Mapping[str, float]
) -> dict[str, dict[str, Difference]]:
    """The differences in words, their p-values corrected over all of them."""
    places = [(label, key) for label, row in raw.items() for key in row]
    every = [raw[label][key] for label, key in places]
    corrected = holm(np.array([math.nan if d.p is None else d.p for d in every]))
    found: dict[str, dict[str, Difference]] = {label: {} for label in raw}
    for (label, key), d, p in zip(places, every, corrected, strict=True):
        p_value = float(p) if math.isfinite(p) else None
        word = word_of(d.mean, p_value)
        least, most = metrics[key].bounds
        width = most - least  # no difference is larger
        found[label][key] = Difference(
            mean=d.mean,
            low=None if d.low is None else max(-width, d.low),
            high=None if d.high is None else min(width, d.high),
            p=p_value,
            word=word,
            verdict=verdict_of(word, metrics[key].better),
            below_noise=abs(d.mean) <= noise.get(key, -1.0),
            prompts=d.prompts,
        )
    return found


def _noise(whole: Sequence[PointResult]) -> dict[str, float]:
    """By metric, the largest change that running a strategy again, or alone, made at any point."""
    floor: dict[str, float] = {}
    for p in whole:
        if not _stored(p).has("noise.json"):
            continue
        try:
            known = json.loads(_stored(p).path("noise.json").read_text(encoding="utf-8"))
            changes = finite(known.get("metrics", {}))
        except (ValueError, AttributeError):
            continue  # half a file, or one of another version, is as good as none
        for key, change in changes.items():
            floor[key] = max(floor.get(key, 0.0), abs(change))
    return floor


def _front(sweep: Sweep, whole: Sequence[PointResult], notes: list[str]) -> Front | None:
    """The front in those of the wanted metrics that were taken."""
    wanted = sweep.compare.get("pareto")
    if wanted is None:
        from harness.config.point import Compare

        wanted = Compare().pareto
    taken = [key for key in dict.fromkeys(wanted) if any(key in p.metrics for p in whole)]
    if len(taken) < 2:
        return None
    missing = [key for key in wanted if key not in taken]
    if missing:
        notes.append(f"compare.pareto: no point has {', '.join(missing)}; the front is one of the others")
    compared = [p for p in whole if all(key in p.metrics for key in taken)]
    if not compared:
        return None
    own = _own(whole)
    values = np.array([[p.metrics[key] for key in taken] for p in compared])
    on_front = pareto_front(values, [metric_of(key, own).better != "lower" for key in taken])
    labels = [p.point.label for p in compared]
    return Front(
        metrics=tuple(taken),
        labels=tuple(label for label, on in zip(labels, on_front, strict=True) if on),
        compared=tuple(labels),
    )


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _NAMED
    return ", ".join(labels[:_NAMED]) + (f" and {more} more points" if more > 0 else "")
