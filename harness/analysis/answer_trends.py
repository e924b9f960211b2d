"""Sentences of an answer: what the values of the swept keys do."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.comparison import Comparison
from harness.analysis.metric_catalog import HEADLINES, Metric
from harness.analysis.sentence import Sentence
from harness.analysis.statistics.simultaneous import LEVEL
from harness.analysis.swept import Trend


def trend_sentences(comparison: Comparison, goal: Metric | None) -> list[Sentence]:
    """Return what the values of each swept key do to the goal; without one, to the headline metrics."""
    found = []
    for key in comparison.swept:
        trends = [trend for trend in comparison.trends if trend.key == key.key]
        if goal:
            found += [_goal_trend(goal, trend) for trend in trends if trend.metric == goal.key]
        else:
            found += _plain_trends(key.key, trends)
    for one in comparison.interactions:
        if goal and one.metric == goal.key and one.p is not None and one.p < LEVEL:
            names = [_short(key) for key in one.keys]
            text = f"the effect of {names[0]} on {goal.name} depends on {names[1]}."
            figures = f"slope of the product {one.slope:.3g} [{one.low:.3g}, {one.high:.3g}], p={one.p:.2g}"
            found.append(Sentence(" x ".join(names), (text,), figures))
    return found


def _goal_trend(goal: Metric, trend: Trend) -> Sentence:
    name, values = _short(trend.key), [value for value, *_ in trend.means]
    span = f"{_number(values[0])} to {_number(values[-1])}"
    ends = trend.means[-1][1] - trend.means[0][1]
    if trend.shape in ("rises", "falls"):
        along = (ends > 0) == (trend.shape == "rises")
        by = f" by {goal.format(abs(ends))}" if along else ""
        text = f"{goal.name} {trend.shape}{by} from {name} {span}"
    elif trend.shape == "optimum":
        text = f"{goal.name} has its optimum within {span}"
    elif trend.shape == "curved":
        text = f"{goal.name} bends over {span}, without a significant optimum inside"
    else:
        text = f"no significant trend of {goal.name} over {span}"
    if trend.best is not None:
        text += f"; best at {_number(trend.best)}"
        others = [value for value in trend.plateau if value != trend.best]
        if len(trend.plateau) == len(values):
            text += ", no other value is significantly worse"
        elif others:
            text += f", {_listed_values(others)} not significantly worse"
        else:
            text += ", all others are significantly worse"
    interval = "" if trend.low is None else f" [{trend.low:.3g}, {trend.high:.3g}]"
    bend = "" if trend.curvature_p is None else f", curvature p={trend.curvature_p:.2g}"
    evidence = f"slope {trend.slope:.3g}{interval} per unit{bend}; {trend.prompts} prompts"
    return Sentence(
        name, (text + ".",), evidence, "good" if trend.shape in ("rises", "falls", "optimum") else ""
    )


def region_sentence(comparison: Comparison, goal: Metric | None) -> Sentence | None:
    """Return which part of a grid of two keys is not significantly worse than its best point."""
    best = comparison.best.get(goal.key) if goal else None
    if len(comparison.swept) != 2 or best is None or not best.worse:
        return None
    outer, inner = sorted(comparison.swept, key=lambda key: len(key.values))
    labels = (best.label, *best.ties, *best.worse)
    groups = {inner.group_of.get(label) for label in labels}
    cells = {(outer.value_of.get(label), inner.value_of.get(label)): label for label in labels}
    if len(groups) != 1 or len(cells) != len(labels) or None in {value for pair in cells for value in pair}:
        return None
    good = {best.label, *best.ties}
    found: dict[str, list[str]] = {}
    for value in outer.values:
        here = [inner_value for inner_value in inner.values if cells.get((value, inner_value)) in good]
        if here:
            found.setdefault(_ranges(here, inner.values), []).append(_number(value))
    if not found:
        return None
    parts = [f"{_short(inner.key)} {where} at {_short(outer.key)} {_and(at)}" for where, at in found.items()]
    text = f"not significantly worse than the best: {'; '.join(parts)}."
    return Sentence("Equally good", (text,), f"{len(good)} of {len(labels)} runs, {best.prompts} prompts")


def _ranges(values: Sequence[float], every: Sequence[float]) -> str:
    """Return `0.3 to 1` of neighbouring values, else a list."""
    first = every.index(values[0])
    if len(values) > 2 and tuple(values) == tuple(every[first : first + len(values)]):
        return f"{_number(values[0])} to {_number(values[-1])}"
    return _and([_number(value) for value in values])


def _and(texts: Sequence[str]) -> str:
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]


def _plain_trends(key: str, trends: Sequence[Trend]) -> list[Sentence]:
    headline = {metric.key: metric for metric in HEADLINES}
    moved = [t for t in trends if t.metric in headline and t.shape in ("rises", "falls")]
    name = _short(key)
    if not moved:
        known = [headline[t.metric].name for t in trends if t.metric in headline]
        text = f"no significant trend of {', '.join(known)}."
        return [Sentence(name, (text,), f"{trends[0].prompts} prompts")] if known else []
    words = [f"{headline[t.metric].name} {t.shape}" for t in moved]
    figures = "; ".join(
        f"{headline[t.metric].name} {t.slope:+.3g} per unit"
        + ("" if t.low is None else f" [{t.low:.3g}, {t.high:.3g}]")
        for t in moved
    )
    return [Sentence(name, (f"with a higher value, {', '.join(words)}.",), figures)]


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _number(value: float) -> str:
    return f"{value:g}"


def _listed_values(values: Sequence[float]) -> str:
    """Return `0.6, 0.7 and 0.9 are`."""
    return f"{_and([_number(value) for value in values])} {'are' if len(values) > 1 else 'is'}"
