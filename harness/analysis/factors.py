"""How much each choice affects each metric, over the points of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.analysis.comparison import Effect
from harness.analysis.point_results import CHOICES, PointResult
from harness.analysis.statistics.effects import effect_share, level_means
from harness.config.labels import value_text

UNSET = "–"
"""The level of a point that does not have a varied key."""


def factors_of(points: Sequence[PointResult]) -> dict[str, list[str]]:
    """Return, by factor, the level of each point: choices and varied keys that differ, each grouping once."""
    found = {name: [str(getattr(p.point, name)) for p in points] for name in CHOICES}
    for key in dict.fromkeys(key for p in points for key in p.point.varied):
        if key not in found:
            found[key] = [value_text(p.point.varied[key]) if key in p.point.varied else UNSET for p in points]
    seen, distinct = set(), {}
    for name, levels in found.items():
        index_of = {level: index for index, level in enumerate(dict.fromkeys(levels))}
        grouping = tuple(index_of[level] for level in levels)
        # Two factors that group the points alike are confounded: the first represents both.
        if len(set(levels)) > 1 and grouping not in seen:
            seen.add(grouping)
            distinct[name] = levels
    return distinct


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


def _effect(metric: str, values: np.ndarray, name: str, factors: Mapping[str, Sequence[str]]) -> Effect:
    others = [levels for other, levels in factors.items() if name not in (other, other.partition(".")[0])]
    share = effect_share(values, factors[name], others)
    levels = {str(level): mean for level, mean in level_means(values, factors[name]).items()}
    return Effect(
        metric=metric,
        factor=name,
        share=0.0 if np.isnan(share) else share,
        spread=max(levels.values()) - min(levels.values()),
        levels=levels,
    )
