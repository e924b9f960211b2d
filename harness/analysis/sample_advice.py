"""The sentence of an answer that says how many prompts, or samples of each, would show a difference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.analysis.answer_words import value_text
from harness.analysis.metric_catalog import Metric
from harness.analysis.sample_table import SampleTable
from harness.analysis.sentence import Sentence
from harness.analysis.statistics.sample_size import (
    LEAST_PROMPTS,
    detectable,
    in_round_numbers,
    needed_prompts,
    needed_samples,
)
from harness.analysis.swept import BestSet

MOST_ADVISED = 100_000
"""Prompts; a difference that would need more is called out of reach."""

MOST_SAMPLES = 64
"""Samples of a prompt; more are not advised."""


def more_prompts(goal: Metric, best: BestSet, samples: Mapping[str, SampleTable]) -> Sentence:
    """Return what would show the difference between the best and the last point, and what these can."""
    worst = best.ties[-1]
    gap, deviation = best.ahead[worst][0], best.deviations.get(worst)
    if deviation is None:
        return Sentence("More prompts", ("differences need two prompts or more.",), tone="bad")
    size = f"a difference of this size, {value_text(goal, gap)}"
    needed = needed_prompts(gap, deviation, best.comparisons)
    if needed is None or needed > MOST_ADVISED:
        text = f"{size}, is out of reach of any number of prompts"
    elif (needed := max(needed, LEAST_PROMPTS)) <= best.prompts:
        text = f"about as many prompts again would settle {size}"
    else:
        text = f"about {in_round_numbers(needed):,} prompts (now {best.prompts}) would show {size}"
    text += _or_samples(goal, best, deviation, gap, samples)
    visible = detectable(deviation, best.prompts, best.comparisons)
    if best.prompts >= LEAST_PROMPTS and 0 < visible < goal.bounds[1] - goal.bounds[0]:
        text += f"; these {best.prompts} show {value_text(goal, visible)} and more"
    evidence = f"spread of these differences over prompts {value_text(goal, deviation)}; power 80%"
    return Sentence("More prompts", (f"{text}.",), evidence)


def _or_samples(
    goal: Metric, best: BestSet, deviation: float, gap: float, samples: Mapping[str, SampleTable]
) -> str:
    """Return how many samples of each prompt would do instead; empty where they would not."""
    pair = [samples[label] for label in (best.label, best.ties[-1]) if label in samples]
    found = within_prompts(pair[0], pair[1], str(goal.per_sample)) if len(pair) == 2 else None
    if found is None or best.prompts < LEAST_PROMPTS:
        return ""
    within, now = found
    needed = needed_samples(gap, deviation, within, now, best.prompts, best.comparisons)
    if needed is None or not now < needed <= MOST_SAMPLES:
        return ""
    return f", and so would about {in_round_numbers(needed)} samples of each prompt (now {now})"


def within_prompts(first: SampleTable, second: SampleTable, column: str) -> tuple[float, int] | None:
    """Return the deviation, within a prompt, of a difference between samples; and the samples of a prompt.

    Samples with one number are a pair, since they share their noise. A point with one sample of each prompt
    counts as deterministic: only the other one varies. None where neither has several samples, or both
    have several and not equally many.
    """
    ours, theirs = _by_sample(first, column), _by_sample(second, column)
    shared = [prompt for prompt in ours if prompt in theirs]
    counts = {(len(ours[prompt]), len(theirs[prompt])) for prompt in shared}
    if len(counts) != 1:
        return None
    ((mine, other),) = counts
    if max(mine, other) < 2 or (mine != other and min(mine, other) > 1):
        return None
    squares, freedom = 0.0, 0
    for prompt in shared:
        a, b = ours[prompt], theirs[prompt]
        if mine == other:
            both = [number for number in a if number in b]
            values = np.array([a[number] - b[number] for number in both])
        else:
            values = np.array(list((a if mine > other else b).values()))
        if len(values) > 1:
            squares += float(((values - values.mean()) ** 2).sum())
            freedom += len(values) - 1
    return ((squares / freedom) ** 0.5, max(mine, other)) if freedom else None


def _by_sample(table: SampleTable, column: str) -> dict[str, dict[int, float]]:
    """Return the finite values by prompt and number of the sample."""
    found: dict[str, dict[int, float]] = {}
    values = table.columns.get(column, np.empty(0))
    for prompt, sample, value in zip(table.prompt, table.sample, values, strict=False):
        if np.isfinite(value):
            found.setdefault(table.prompt_ids[prompt], {})[int(sample)] = float(value)
    return found
