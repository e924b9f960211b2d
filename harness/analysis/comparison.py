"""The comparison of a sweep's points: the records that every report starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis.answer import Answer
from harness.analysis.metric_catalog import Metric, in_order, metric_of
from harness.analysis.point_results import PointResult
from harness.analysis.selection.over_samples import SelectionCurve
from harness.analysis.statistics.verdicts import Verdict, Word
from harness.analysis.swept import BestSet, Interaction, SweptKey, Trend


@dataclass(frozen=True)
class Difference:
    """A point's metric minus the baseline's, paired by prompt and sample.

    Attributes:
        mean: of the differences over prompts; not always the difference of the two values, which may weight
            prompts by their tokens, or be quantiles.
        low, high: 95% confidence interval over prompts; None where there are too few.
        p: two-sided, simultaneous over the points in this metric, as the interval is: it is below 0.05
            just where the interval leaves 0 out. None without an interval.
        word: `higher` or `lower` only where p is below 0.05.
        verdict: where the metric has a direction and the difference is significant.
        within_noise: whether it is no larger than what the metric moves by when it is measured again.
        prompts: number of prompts that it was paired over.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    word: Word
    verdict: Verdict | None
    within_noise: bool
    prompts: int


@dataclass(frozen=True)
class Cell:
    """One metric of one point: its value, interval and difference from the baseline.

    `constant` is whether all samples have this value, so that there is no interval.
    """

    value: float
    low: float | None = None
    high: float | None = None
    difference: Difference | None = None
    constant: bool = False


@dataclass(frozen=True)
class Effect:
    """How much one choice (`model`, `quantization`, `prompts`, `decoding`, or a varied key) affects a metric.

    Attributes:
        metric: its key.
        factor: the choice.
        share: eta squared, the share of the variance over the points that its levels explain.
        spread: largest minus smallest mean over the factor's levels.
        levels: mean of the metric by level.
        confounded: factors that group the points alike, so that the effect may be theirs.
    """

    metric: str
    factor: str
    share: float
    spread: float
    levels: Mapping[str, float]
    confounded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Front:
    """The Pareto front: points that no other point dominates in these metrics.

    Attributes:
        metrics: their keys; the direction of a metric without one is `higher`.
        labels: of the points on the front.
        compared: labels of all points that have all of the metrics.
    """

    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    compared: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A sweep's comparison.

    Attributes:
        baseline: label of the point that the others are compared with; None when no point is complete.
        metrics: those that any point has, in the order of the catalogue.
        cells: by label, then by metric key.
        effects: of every factor that varies, largest share first.
        front: the Pareto front; None where fewer than two of its metrics were measured.
        noise: the noise floor by metric key; may be empty.
        disagreement: by prompt id, 0 (all points generated the same text) to 1, most first.
        self_bleu: by prompt id, mean BLEU of a text and those of the other points, 0 to 100.
        approximate: whether there are so few prompts (under 20) that intervals are approximate.
        notes: lines that reports must show, such as what could not be compared.
        answer: what the sweep says about its question; None when no point is complete.
        swept: the numeric keys that vary.
        trends: of every metric with samples over every swept key.
        interactions: of every pair of swept keys.
        best: by metric key, the best points; of metrics with a better direction and samples.
        tested: what the p-values of this sweep test, in one line.
        selection: the scores of chosen samples, by how many they are chosen from.
    """

    baseline: str | None
    metrics: tuple[Metric, ...]
    cells: Mapping[str, Mapping[str, Cell]]
    effects: tuple[Effect, ...] = ()
    front: Front | None = None
    noise: Mapping[str, float] = field(default_factory=dict)
    disagreement: Mapping[str, float] = field(default_factory=dict)
    self_bleu: Mapping[str, float] = field(default_factory=dict)
    approximate: bool = False
    notes: tuple[str, ...] = ()
    answer: Answer | None = None
    swept: tuple[SweptKey, ...] = ()
    trends: tuple[Trend, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    best: Mapping[str, BestSet] = field(default_factory=dict)
    tested: str = ""
    selection: tuple[SelectionCurve, ...] = ()


def metrics_of(points: Sequence[PointResult]) -> tuple[Metric, ...]:
    """Return the metrics that any point has: in the order of the catalogue, then the others by name."""
    custom = {key: metric for p in points for key, metric in p.custom_metrics.items()}
    return tuple(metric_of(key, custom) for key in in_order(key for p in points for key in p.metrics))


def plain_comparison(points: Sequence[PointResult]) -> Comparison:
    """Return the points' values with their intervals, compared with nothing."""
    return Comparison(
        baseline=None,
        metrics=metrics_of(points),
        cells={
            p.point.label: {
                key: Cell(value, *p.intervals.get(key, (None, None))) for key, value in p.metrics.items()
            }
            for p in points
        },
    )
