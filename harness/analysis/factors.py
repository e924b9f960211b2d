"""How much each choice affects each metric, over the points of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.comparison import Effect
from harness.analysis.point_results import CHOICES, PointResult
from harness.analysis.statistics.effects import effect_share, level_means
from harness.config.labels import value_text

UNSET = "–"
"""The level of a point that does not have a varied key."""


@dataclass(frozen=True)
class Factor:
    """What varies among points.

    Attributes:
        levels: of each point.
        confounded: other choices and keys that group the points in the same way.
    """

    levels: list[str]
    confounded: tuple[str, ...] = ()


def factors_of(points: Sequence[PointResult]) -> dict[str, Factor]:
    """Return the choices and varied keys that differ, by name; the first of those that are confounded."""
    found = {name: [str(getattr(p.point, name)) for p in points] for name in CHOICES}
    for key in dict.fromkeys(key for p in points for key in p.point.varied):
        if key not in found:
            found[key] = [value_text(p.point.varied[key]) if key in p.point.varied else UNSET for p in points]
    groupings: dict[tuple[int, ...], list[str]] = {}
    for name, levels in found.items():
        index_of = {level: index for index, level in enumerate(dict.fromkeys(levels))}
        if len(index_of) > 1:
            groupings.setdefault(tuple(index_of[level] for level in levels), []).append(name)
    return {first: Factor(found[first], tuple(others)) for first, *others in groupings.values()}


def effects_of(points: Sequence[PointResult], metrics: Sequence[str]) -> tuple[Effect, ...]:
    """Return main effects on each metric over the points that have it, largest share first.

    A key of a choice (`decoding.temperature`) is nested in it: the choice is not adjusted for its keys, the
    key is for its choice. Where each level of a factor has one point, the factor explains all variance: then
    only its spread is informative.
    """
    found = []
    for metric in metrics:
        present = [p for p in points if metric in p.metrics]
        values = np.array([p.metrics[metric] for p in present])
        factors = factors_of(present)
        found += [_effect(metric, values, name, factors) for name in factors]
    return tuple(sorted(found, key=lambda effect: -effect.share))


def _effect(metric: str, values: np.ndarray, name: str, factors: Mapping[str, Factor]) -> Effect:
    others = [f.levels for other, f in factors.items() if name not in (other, other.partition(".")[0])]
    share = effect_share(values, factors[name].levels, others)
    levels = {str(level): mean for level, mean in level_means(values, factors[name].levels).items()}
    return Effect(
        metric=metric,
        factor=name,
        share=0.0 if np.isnan(share) else share,
        spread=max(levels.values()) - min(levels.values()),
        levels=levels,
        confounded=factors[name].confounded,
    )
