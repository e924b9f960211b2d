"""Numeric keys that a sweep varies: how a metric moves over their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Shape = Literal["rises", "falls", "optimum", "curved", "flat"]


@dataclass(frozen=True)
class SweptKey:
    """A numeric key with two or more values in the sweep, as `decoding.temperature`.

    Attributes:
        key: as in a config.
        values: ascending.
        value_of: by label, the value of each point that has one.
        group_of: by label, what else that point is: its other choices and varied keys. Points of one
            group differ in this key alone (in a grid of two keys: in both), and are a line of a chart.
    """

    key: str
    values: tuple[float, ...]
    value_of: Mapping[str, float]
    group_of: Mapping[str, str]


@dataclass(frozen=True)
class Trend:
    """How a metric depends on a swept key, paired by prompt, averaged over the other choices.

    Attributes:
        metric, key: what depends on what.
        slope: change of the metric per unit of the key (least squares within each prompt, mean over prompts).
        low, high: its 95% interval, simultaneous with the curvature's; None with too few prompts.
        p: of a slope of 0 (likewise simultaneous); None without an interval.
        curvature_p: of no curvature; None with fewer than three values.
        shape: `rises` or `falls` where the slope is significant; `optimum` where the curvature is and both
            ends are significantly worse; `curved` where only the curvature is; else `flat`: no significant
            trend.
        best: the value with the best mean; None where the metric has no better direction.
        plateau: the values that are not significantly worse than the best one, `best` included.
        means: (value, mean, low, high) of each value; a band over prompts, None where there are too few.
        prompts: number of prompts that it is paired over.
    """

    metric: str
    key: str
    slope: float
    low: float | None
    high: float | None
    p: float | None
    curvature_p: float | None
    shape: Shape
    best: float | None
    plateau: tuple[float, ...]
    means: tuple[tuple[float, float, float | None, float | None], ...]
    prompts: int


@dataclass(frozen=True)
class Interaction:
    """Whether the effect of one swept key depends on another: the product term, paired by prompt.

    Attributes:
        metric, keys: what depends on which two.
        slope: change of the metric per unit of both.
        low, high, p: as of a trend, simultaneous with both main effects.
    """

    metric: str
    keys: tuple[str, str]
    slope: float
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class BestSet:
    """The best points in one metric that has a better direction.

    Attributes:
        label: of the point with the best mean.
        ties: labels that are not significantly worse, in order of their means; without `label`.
        worse: labels that are significantly worse (simultaneous over all pairs of points).
        by_baseline: those of `worse` of which only the comparison with the baseline shows it, a family of
            fewer pairs.
        ahead: by label, by how much the best one is ahead: (mean, low, high), the last two None without an
            interval; positive is better.
        values: by label, the mean over the prompts that all these points have, which ranks them.
        prompts: number of these prompts.
        deviations: by label, the standard deviation over prompts of the difference from the best; without
            those that have none.
        comparisons: number of pairs.
    """

    label: str
    ties: tuple[str, ...]
    worse: tuple[str, ...]
    ahead: Mapping[str, tuple[float, float | None, float | None]] = field(default_factory=dict)
    by_baseline: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    prompts: int = 0
    deviations: Mapping[str, float] = field(default_factory=dict)
    comparisons: int = 0
