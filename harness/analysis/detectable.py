"""Which differences a prompt set can show, from the spread over prompts of what is stored already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.analysis.answer_words import counted, value_text
from harness.analysis.comparison import metrics_of
from harness.analysis.goal import goal_of
from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.analysis.prompt_values import prompt_values
from harness.analysis.sample_table import read_sample_table
from harness.analysis.statistics.sample_size import LEAST_PROMPTS, detectable
from harness.store.sweeps import Sweep

TRAITS = ("probability/mean_logprob", "text/distinct_2")
"""Without a goal: the metrics of which it is said."""

MOST_READ = 8
"""Points; what more of them would add to the spread is not worth the time."""


@dataclass(frozen=True)
class Detectable:
    """The least difference between two points that is found in 80% of sweeps.

    Attributes:
        metric: in which they differ.
        difference: its size.
        prompts: number of prompts.
        pairs: number of pairs of stored points whose differences its spread is the median of; 0 where it is
            the bound that one point gives: of points that are not correlated.
    """

    metric: Metric
    difference: float
    prompts: int
    pairs: int


def detectable_differences(sweep: Sweep, stored: Sequence[PointResult], runs: int) -> list[Detectable]:
    """Return what a sweep of so many runs can show, by metric; none where fewer than two prompts have it.

    Args:
        sweep: with its goal.
        stored: completed points of one prompt set.
        runs: of the sweep, which decide how many pairs are compared.
    """
    stored = [p for p in stored if p.stored][:MOST_READ]
    metrics = metrics_of(stored)
    goal, _ = goal_of(sweep, metrics)
    wanted = [goal] if goal else [metric for metric in metrics if metric.key in TRAITS]
    columns = [metric.per_sample for metric in wanted if metric.per_sample]
    samples = {p.point.label: read_sample_table(p.stored, columns) for p in stored if p.stored}
    values = prompt_values(stored, samples)
    comparisons = max(1, runs * (runs - 1) // 2)
    found = []
    for metric in wanted:
        if metric.per_sample not in values.means:
            continue
        spread = spread_of_differences(values.means[str(metric.per_sample)])
        if spread is not None:
            deviation, prompts, pairs = spread
            found.append(Detectable(metric, detectable(deviation, prompts, comparisons), prompts, pairs))
    return found


def spread_of_differences(means: np.ndarray) -> tuple[float, int, int] | None:
    """Return the deviation of differences over prompts, given (P, N) means by point and prompt.

    Returns:
        The deviation (the median over pairs of points; of one point the root of 2 times its own), the number
        of prompts, the number of pairs. None where no two prompts have values.
    """
    pairs = [means[a] - means[b] for a, b in combinations(range(len(means)), 2)]
    rows = [row[np.isfinite(row)] for row in pairs]
    rows = [row for row in rows if len(row) > 1]
    if rows:
        prompts = int(np.median([len(row) for row in rows]))
        return float(np.median([row.std(ddof=1) for row in rows])), prompts, len(rows)
    single = [row[np.isfinite(row)] for row in means]
    single = [row for row in single if len(row) > 1]
    if not single:
        return None
    return float(2**0.5 * single[0].std(ddof=1)), len(single[0]), 0


def detectable_line(found: Sequence[Detectable]) -> str | None:
    """Return in one line what the prompts can show; None where nothing is known of it."""
    known = [one for one in found if one.difference > 0]
    if not known:
        return None
    first = known[0]
    if first.prompts < LEAST_PROMPTS:
        return f"{counted(first.prompts)} can show no significant difference: {LEAST_PROMPTS} are the least"
    sizes = []
    for one in known:
        least, most = one.metric.bounds
        size = f"of {value_text(one.metric, one.difference)} and more"
        sizes.append(f"{size if one.difference < most - least else 'of no size'} in {one.metric.name}")
    basis = (
        f"by the spread of {first.pairs} pair{'s' * (first.pairs != 1)} of stored runs"
        if first.pairs
        else "an upper bound, by the spread of one stored run"
    )
    return f"{counted(first.prompts)} show differences {', '.join(sizes)} (in 80% of sweeps; {basis})"
