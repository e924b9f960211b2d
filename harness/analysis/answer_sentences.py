"""The sentences of a sweep's answer: the best point for the question's metric first, then what it costs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from harness.analysis.answer import Answer
from harness.analysis.answer_costs import cost_sentence, quantization_sentences, speed_sentences
from harness.analysis.answer_levels import level_sentences
from harness.analysis.answer_notices import (
    devices_sentence,
    disagreement_sentence,
    failure_sentence,
    loop_sentence,
)
from harness.analysis.answer_speculation import speculation_sentence
from harness.analysis.answer_trends import region_sentence, trend_sentences
from harness.analysis.answer_words import bounds_text, common_prompts, counted, extreme_of, value_text
from harness.analysis.comparison import Comparison
from harness.analysis.goal import goal_of
from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.analysis.prompt_values import PromptValues
from harness.analysis.sample_advice import more_prompts
from harness.analysis.sample_table import SampleTable
from harness.analysis.sentence import Link, Sentence, Span, listed
from harness.analysis.swept import BestSet
from harness.store.sweeps import Sweep

TRAITS = ("text/repeated_4", "text/distinct_2", "text/looped_share")
"""Without a goal: the metrics that the answer says a word about where strategies differ in them."""


def answer_of(
    sweep: Sweep,
    points: Sequence[PointResult],
    comparison: Comparison,
    values: PromptValues,
    samples: Mapping[str, SampleTable],
    binary: Collection[str],
) -> Answer | None:
    """Return what the sweep says about its question; None where it has no points.

    Args:
        sweep: with its goal.
        points: all of its points.
        comparison: of the completed ones, but for its answer.
        values: the completed points' metrics by prompt.
        samples: their samples, by label.
        binary: keys of metrics that are shares of samples.
    """
    if not points:
        return None
    completed = [p for p in points if p.stored]
    # Chosen samples are rivals for the best, but no runs of which strategies are averages or that cost time.
    runs = [p for p in completed if not p.selected_from]
    goal, complaint = goal_of(sweep, comparison.metrics)
    found: list[Sentence | None] = [complaint]
    best = comparison.best.get(goal.key) if goal else None
    if goal and best:
        found += _best(goal, best, comparison, samples)
    elif goal and completed:
        found += _uncompared(goal, completed, comparison)
    elif len(completed) > 1 and complaint is None:
        found += [_no_goal(comparison), *_traits(comparison)]
    shares = goal is not None and goal.key in binary
    found += level_sentences(runs, values, goal, shares)
    found += trend_sentences(comparison, goal)
    found.append(region_sentence(comparison, goal))
    if len(completed) > 1:
        found += quantization_sentences(runs, values, goal, shares)
        found.append(cost_sentence(completed, best if best and best.worse else None))
        found += speed_sentences(completed, best)
        found += [devices_sentence(runs), disagreement_sentence(comparison)]
    found.append(speculation_sentence(runs))
    found += [loop_sentence(runs, comparison), failure_sentence([p for p in points if not p.selected_from])]
    return Answer(
        goal=goal.key if goal else None,
        best=best.label if best else None,
        ties=best.ties if best else (),
        sentences=tuple(sentence for sentence in found if sentence),
    )


def _uncompared(goal: Metric, completed: Sequence[PointResult], comparison: Comparison) -> list[Sentence]:
    """Return the goal of a single point, or which has the best where the goal is one value per run."""
    have = [p for p in completed if goal.key in p.metrics]
    if not have:
        return []
    if len(have) > 1:
        best = _ranked(have, goal)[0]
        value = value_text(goal, best.metrics[goal.key])
        text = f" has the {extreme_of(goal)} {goal.name}, {value}; whether that is significant is not known."
        reason = "one value per run, which has no spread over prompts"
        return [Sentence("No winner", (Link("point", best.point.label), text), reason)]
    cell = comparison.cells[have[0].point.label][goal.key]
    interval = "" if cell.low is None else f"95% interval {bounds_text(goal, cell.low, cell.high)}, "
    evidence = f"{interval}{counted(len(have[0].prompt_ids))}"
    return [Sentence("Result", (f"{goal.name} {value_text(goal, cell.value)}.",), evidence, "good")]


def _ranked(points: Sequence[PointResult], goal: Metric) -> list[PointResult]:
    return sorted(points, key=lambda p: p.metrics[goal.key], reverse=goal.better == "higher")


def _best(
    goal: Metric, best: BestSet, comparison: Comparison, samples: Mapping[str, SampleTable]
) -> list[Sentence | None]:
    """Return which point is best, what it beats; or that nothing differs, and what it would take."""
    common = common_prompts(goal, best, comparison)
    if not best.worse:
        return _no_difference(goal, best, common, samples)
    spans: list[Span] = [
        Link("point", best.label),
        f" has the {extreme_of(goal)} {goal.name}{common}, {value_text(goal, best.values[best.label])}: "
        "significantly better than ",
        *listed(best.worse),
    ]
    if best.ties:
        spans += ["; no significant difference from ", *listed(best.ties)]
    nearest = best.worse[0]
    mean, low, high = best.ahead[nearest]
    margin = "" if low is None else f" {bounds_text(goal, low, high)}"
    evidence = (
        f"{goal.name} is better by {value_text(goal, mean)}{margin} than the next significantly worse; "
        f"{counted(best.prompts)}, 95% over {_compared(best, nearest)}"
    )
    return [Sentence("Best", (*spans, "."), evidence, "good")]


def _compared(best: BestSet, worse: str = "") -> str:
    """Return which comparisons hold together: all pairs, or those that show this point to be worse."""
    if len(best.ahead) < 2:
        return "2 runs"
    if worse in best.by_baseline:
        return f"{len(best.ahead)} comparisons with the baseline"
    return f"all pairs of {len(best.ahead) + 1} runs"


def _no_difference(
    goal: Metric, best: BestSet, common: str, samples: Mapping[str, SampleTable]
) -> list[Sentence | None]:
    """Return that no point is significantly better, the largest difference, and what would show it."""
    worst = best.ties[-1]
    value, other = best.values[best.label], best.values[worst]
    prompts = counted(best.prompts)
    gap, low, high = best.ahead[worst]
    if math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12):
        same: tuple[Span, ...] = (f"all runs have the same {goal.name}{common}, {value_text(goal, value)}.",)
        return [Sentence("No difference", same, f"{prompts}, {_compared(best)}")]
    extremes = ("highest", "lowest") if goal.better == "higher" else ("lowest", "highest")
    where = common or f" on {'this' if best.prompts == 1 else 'these'} {prompts}"
    spans: tuple[Span, ...] = (
        f"no significant difference in {goal.name}{where}; the {extremes[0]} has ",
        Link("point", best.label),
        f" with {value_text(goal, value)}, the {extremes[1]} ",
        Link("point", worst),
        f" with {value_text(goal, other)}.",
    )
    margin = "" if low is None else f" {bounds_text(goal, low, high)}"
    evidence = f"largest difference {value_text(goal, gap)}{margin}; 95% over {_compared(best)}"
    return [Sentence("No winner", spans, evidence), more_prompts(goal, best, samples)]


def _no_goal(comparison: Comparison) -> Sentence:
    differ = sorted(
        {
            metric.name
            for metric in comparison.metrics
            if any(
                (cell := cells.get(metric.key))
                and cell.difference
                and cell.difference.word in ("higher", "lower")
                for cells in comparison.cells.values()
            )
        }
    )
    known = ", ".join(differ[:8]) + (f" and {len(differ) - 8} more" if len(differ) > 8 else "")
    found = f" Each tested by itself, these differ significantly from the baseline: {known}." if differ else (
        " No metric differs significantly from the baseline."
    )  # fmt: skip
    cure = "set compare.goal to a metric, or give each prompt a reference"
    return Sentence("No goal", (f"to learn which run is best, {cure}.{found}",))


def _traits(comparison: Comparison) -> list[Sentence]:
    """Return, of a few metrics with a direction, the best points, where they are significantly better."""
    found = []
    for metric in comparison.metrics:
        best = comparison.best.get(metric.key)
        if metric.key not in TRAITS or best is None or not best.worse:
            continue
        value = value_text(metric, best.values[best.label]) + common_prompts(metric, best, comparison)
        extreme = extreme_of(metric).capitalize()
        spans: list[Span] = [Link("point", best.label), f" with {value}: significantly better than "]
        spans += listed(best.worse)
        if best.ties:
            spans += ["; no significant difference from ", *listed(best.ties)]
        over = _compared(best, best.worse[0])
        evidence = f"{metric.description}; {counted(best.prompts)}, 95% over {over}"
        found.append(Sentence(f"{extreme} {metric.name}", (*spans, "."), evidence))
    return found
