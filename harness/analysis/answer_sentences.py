"""The sentences of a sweep's answer: the best point for the question's metric first, then what it costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.analysis.answer import Answer
from harness.analysis.answer_costs import cost_sentence, quantization_sentences, speed_sentences
from harness.analysis.answer_notices import disagreement_sentence, failure_sentence, loop_sentence
from harness.analysis.answer_trends import trend_sentences
from harness.analysis.comparison import Comparison
from harness.analysis.goal import goal_of
from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.analysis.prompt_values import PromptValues
from harness.analysis.sentence import Link, Sentence, Span, listed
from harness.analysis.statistics.sample_size import detectable, in_round_numbers, needed_prompts
from harness.analysis.swept import BestSet
from harness.store.sweeps import Sweep

TRAITS = ("text/repeated_4", "text/distinct_2", "text/looped_share")
"""Without a goal: the metrics that the answer says a word about where strategies differ in them."""

MOST_ADVISED = 100_000
"""Prompts; a difference that would need more is called out of reach."""


def answer_of(
    sweep: Sweep,
    points: Sequence[PointResult],
    comparison: Comparison,
    values: PromptValues,
    binary: Collection[str],
) -> Answer | None:
    """Return what the sweep says about its question; None where it has no points.

    Args:
        sweep: with its goal.
        points: all of its points.
        comparison: of the completed ones, but for its answer.
        values: the completed points' metrics by prompt.
        binary: keys of metrics that are shares of samples.
    """
    if not points:
        return None
    completed = [p for p in points if p.stored]
    goal, complaint = goal_of(sweep, comparison.metrics)
    found: list[Sentence | None] = [complaint]
    best = comparison.best.get(goal.key) if goal else None
    if goal and best:
        found += _best(goal, best, comparison)
    elif goal and completed:
        found += _single(goal, completed, comparison)
    elif len(completed) > 1 and complaint is None:
        found += [_no_goal(comparison), *_traits(comparison)]
    found += trend_sentences(comparison, goal)
    if len(completed) > 1:
        found.append(cost_sentence(completed, best))
        found += quantization_sentences(completed, values, goal, goal is not None and goal.key in binary)
        found += speed_sentences(completed, best)
        found.append(disagreement_sentence(comparison))
    found += [loop_sentence(completed, comparison), failure_sentence(points)]
    return Answer(
        goal=goal.key if goal else None,
        best=best.label if best else None,
        ties=best.ties if best else (),
        sentences=tuple(sentence for sentence in found if sentence),
    )


def _single(goal: Metric, completed: Sequence[PointResult], comparison: Comparison) -> list[Sentence]:
    """Return the goal of a single point; nothing where several have it in a way that cannot be compared."""
    have = [p for p in completed if goal.key in p.metrics]
    if len(have) != 1:
        return []
    cell = comparison.cells[have[0].point.label][goal.key]
    interval = "" if cell.low is None else f"95% interval {bounds_text(goal, cell.low, cell.high)}, "
    prompts = f"{interval}{len(have[0].prompt_ids)} prompts"
    return [Sentence("Result", (f"{goal.name} {value_text(goal, cell.value)}.",), prompts, "good")]


def _best(goal: Metric, best: BestSet, comparison: Comparison) -> list[Sentence | None]:
    """Return which point is best, what it beats; or that nothing differs, and what it would take."""
    cell = comparison.cells[best.label][goal.key]
    extreme = "highest" if goal.better == "higher" else "lowest"
    runs = f"all pairs of {len(best.ahead) + 1} runs" if len(best.ahead) > 1 else "2 runs"
    if not best.worse:
        return _no_difference(goal, best, comparison, extreme, runs)
    spans: list[Span] = [
        Link("point", best.label),
        f" has the {extreme} {goal.name}, {value_text(goal, cell.value)}: significantly better than ",
        *listed(best.worse),
    ]
    if best.ties:
        spans += ["; no significant difference from ", *listed(best.ties)]
    nearest = best.worse[0]
    if nearest in best.by_baseline:
        runs = f"{len(best.ahead)} comparisons with the baseline"
    mean, low, high = best.ahead[nearest]
    margin = "" if low is None else f" {bounds_text(goal, low, high)}"
    evidence = (
        f"{goal.name} is better by {value_text(goal, mean)}{margin} than the next significantly worse; "
        f"{best.prompts} prompts, 95% over {runs}"
    )
    return [Sentence("Best", (*spans, "."), evidence, "good")]


def _no_difference(
    goal: Metric, best: BestSet, comparison: Comparison, extreme: str, runs: str
) -> list[Sentence | None]:
    worst = best.ties[-1]
    value, other = (comparison.cells[label][goal.key].value for label in (best.label, worst))
    prompts = f"{best.prompts} prompt{'s' * (best.prompts != 1)}"
    gap, low, high = best.ahead[worst]
    if gap == 0:
        same: tuple[Span, ...] = (f"all runs have the same {goal.name}, {value_text(goal, value)}.",)
        return [Sentence("No difference", same, f"{prompts}, {runs}")]
    spans: tuple[Span, ...] = (
        f"no significant difference in {goal.name} on these {prompts}; the {extreme} has ",
        Link("point", best.label),
        f" with {value_text(goal, value)}, the {'lowest' if extreme == 'highest' else 'highest'} ",
        Link("point", worst),
        f" with {value_text(goal, other)}.",
    )
    margin = "" if low is None else f" {bounds_text(goal, low, high)}"
    evidence = f"largest difference {value_text(goal, gap)}{margin}; 95% over {runs}"
    return [Sentence("No winner", spans, evidence), _advice(goal, best, gap)]


def _advice(goal: Metric, best: BestSet, gap: float) -> Sentence | None:
    """Return how many prompts would show the largest difference, and what these can show."""
    if best.prompts < 2 or not best.deviation > 0:
        return Sentence("More prompts", ("differences need two prompts or more.",), tone="bad")
    needed = needed_prompts(gap, best.deviation, best.comparisons)
    visible = detectable(best.deviation, best.prompts, best.comparisons)
    if needed is None or needed > MOST_ADVISED:
        text = f"a difference of this size, {value_text(goal, gap)}, is out of reach of any number of prompts"
    elif needed <= best.prompts:
        text = f"about as many prompts again would settle a difference of this size, {value_text(goal, gap)}"
    else:
        text = (
            f"about {in_round_numbers(needed):,} prompts (now {best.prompts}) would show a difference of "
            f"this size, {value_text(goal, gap)}"
        )
    within = goal.bounds[1] - goal.bounds[0]
    can = f"; these {best.prompts} show {value_text(goal, visible)} and more" if visible < within else ""
    evidence = f"spread of the differences over prompts {value_text(goal, best.deviation)}; power 80%"
    return Sentence("More prompts", (f"{text}{can}.",), evidence)


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
    found = f" Metrics that differ significantly from the baseline: {known}." if differ else (
        " No metric differs significantly from the baseline."
    )  # fmt: skip
    cure = "set compare.goal to a metric, or give the prompts a `reference`"
    return Sentence("No goal", (f"to learn which run is best, {cure}.{found}",))


def _traits(comparison: Comparison) -> list[Sentence]:
    """Return, of a few metrics with a direction, the best points, where they are significantly better."""
    found = []
    for metric in comparison.metrics:
        best = comparison.best.get(metric.key)
        if metric.key not in TRAITS or best is None or not best.worse:
            continue
        value = value_text(metric, comparison.cells[best.label][metric.key].value)
        extreme = "Lowest" if metric.better == "lower" else "Highest"
        spans: list[Span] = [Link("point", best.label), f" with {value}: significantly better than "]
        spans += listed(best.worse)
        if best.ties:
            spans += ["; no significant difference from ", *listed(best.ties)]
        evidence = f"{metric.description}; {best.prompts} prompts, 95% over all pairs of runs"
        found.append(Sentence(f"{extreme} {metric.name}", (*spans, "."), evidence))
    return found


def value_text(metric: Metric, value: float) -> str:
    """Return a value of a metric with its unit."""
    return metric.format(value) + (f" {metric.unit}" if metric.unit else "")


def bounds_text(metric: Metric, low: float | None, high: float | None) -> str:
    """Return an interval of a metric, `[0.9, 4.7]`."""
    return f"[{metric.format(low)}, {metric.format(high)}]"
