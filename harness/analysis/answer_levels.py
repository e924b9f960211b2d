"""Sentences of an answer: which strategy or model is best over all that it was combined with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.analysis.answer_words import counted, extreme_of, value_text
from harness.analysis.best_points import best_set
from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import CHOICES, PointResult
from harness.analysis.prompt_values import PromptValues
from harness.analysis.sentence import Sentence
from harness.analysis.swept import BestSet

_TITLES = {"decoding": "Strategy", "model": "Model"}

_PLURALS = {"model": "models", "quantization": "quantizations", "prompts": "prompt sets"}

Rest = tuple[tuple[str, str], ...]
"""What a point is beside the choice in question: its other choices and varied keys, by name."""


def level_sentences(
    completed: Sequence[PointResult], values: PromptValues, goal: Metric | None, shares: bool
) -> list[Sentence]:
    """Return, of strategies and models that were all combined with the same, which is best on average.

    The average over what they were combined with is compared by prompt, all pairs together. Strategies with
    keys of their own that vary are compared as runs only.
    """
    if goal is None or goal.per_sample is None or goal.per_sample not in values.means:
        return []
    found = []
    for factor, title in _TITLES.items():
        grid = _grid(completed, factor)
        rests = next(iter(grid.values()), {}).keys()
        if len(grid) < 2 or len(rests) < 2 or any(cells.keys() != rests for cells in grid.values()):
            continue
        means = [values.of(goal.per_sample, list(cells.values())).mean(axis=0) for cells in grid.values()]
        table = PromptValues(
            values.prompts,
            {level: i for i, level in enumerate(grid)},
            np.isfinite(np.stack(means)),
            {goal.per_sample: np.stack(means)},
        )
        best = best_set(table, goal, list(grid), shares)
        if best:
            found.append(_sentence(title, goal, best, _over(list(rests))))
    return found


def _grid(completed: Sequence[PointResult], factor: str) -> dict[str, dict[Rest, str]]:
    """Return the points' labels by level of a choice, and by what else they are; empty if that is no grid."""
    grid: dict[str, dict[Rest, str]] = {}
    for p in completed:
        others = {name: str(getattr(p.point, name)) for name in CHOICES if name != factor}
        others |= {key: str(value) for key, value in p.point.varied.items() if key not in CHOICES}
        cells = grid.setdefault(str(getattr(p.point, factor)), {})
        if (rest := tuple(sorted(others.items()))) in cells:
            return {}
        cells[rest] = p.point.label
    return grid


def _over(rests: Sequence[Rest]) -> str:
    """Return what was averaged over: `both quantizations`, `all 6 combinations`."""
    levels: dict[str, set[str]] = {}
    for rest in rests:
        for name, value in rest:
            levels.setdefault(name, set()).add(value)
    varying = [name for name, some in levels.items() if len(some) > 1]
    what = _PLURALS.get(varying[0], "combinations") if len(varying) == 1 else "combinations"
    return f"both {what}" if len(rests) == 2 else f"all {len(rests)} {what}"


def _sentence(title: str, goal: Metric, best: BestSet, over: str) -> Sentence:
    value = value_text(goal, best.values[best.label])
    text = f"over {over} {best.label} has the {extreme_of(goal)} {goal.name}, {value}"
    if not best.worse:
        worst = best.ties[-1]
        other = value_text(goal, best.values[worst])
        text = (
            f"over {over} no significant difference in {goal.name}: {best.label} {value} to {worst} {other}"
        )
    else:
        text += f": significantly better than {_joined(best.worse)}"
        if best.ties:
            text += f"; no significant difference from {_joined(best.ties)}"
    evidence = f"{counted(best.prompts)}, 95% over all pairs of {len(best.values)}"
    return Sentence(title, (text + ".",), evidence, "good" if best.worse else "")


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def quantization_pairs(
    completed: Sequence[PointResult], reference_id: Mapping[str, str | None]
) -> dict[tuple[str, str, str], list[tuple[PointResult, PointResult]]]:
    """Return pairs of points that differ in the quantization alone, by model, its reference and its name.

    The reference is what the drift was measured against (`reference_id`, by label), else the quantization
    with the largest weights among those of the sweep. Where it is another model, pairs differ in that alone,
    and the reference is named by the model.
    """
    by_id = {p.point.point_id: p for p in completed}
    found: dict[tuple[str, str, str], list[tuple[PointResult, PointResult]]] = {}
    grid = _grid(completed, "quantization")
    for model in dict.fromkeys(p.point.model for p in completed):
        own = [p for p in completed if p.point.model == model]
        names = list(dict.fromkeys(p.point.quantization for p in own))
        named = {by_id[i].point.quantization for p in own if (i := reference_id.get(p.point.label)) in by_id}
        largest = max(names, key=lambda name: _weights(own, name))
        if len(named) != 1 and _weights(own, largest) <= 0:
            continue
        reference = named.pop() if len(named) == 1 else largest
        by_label = {p.point.label: p for p in own}
        for name in (name for name in names if name != reference):
            pairs = [
                (by_label[label], by_label[other])
                for rest, label in grid.get(name, {}).items()
                if label in by_label and (other := grid.get(reference, {}).get(rest)) in by_label
            ]
            if pairs:
                found[model, reference, name] = pairs
    for p in completed:
        source = by_id.get(reference_id.get(p.point.label) or "")
        if source is not None and source.point.model != p.point.model:
            found.setdefault((p.point.model, source.point.model, p.point.quantization), []).append(
                (p, source)
            )
    return found


def _weights(points: Sequence[PointResult], quantization: str) -> float:
    sizes = [p.metrics.get("memory/weights_mb", 0.0) for p in points if p.point.quantization == quantization]
    return max(sizes, default=0.0)
