"""The curves of a sweep: the score of each run's chosen samples, by how many samples they are chosen from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.analysis.goal import ANSWERS
from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.analysis.sample_table import read_sample_table
from harness.analysis.selection.over_samples import (
    ANY,
    ONE,
    SelectionCurve,
    best_possible,
    expected_scores,
    sizes_up_to,
)
from harness.analysis.selection.selected_points import Choice, Selection
from harness.analysis.selection.selectors import BY_NAME
from harness.analysis.statistics.bootstrap import mean_intervals
from harness.analysis.statistics.proportions import clustered_wilson
from harness.analysis.value_intervals import is_binary
from harness.store.sweeps import Sweep


def scores_of_choices(metrics: Sequence[Metric], goal: str | None) -> list[Metric]:
    """Return the metrics that tell whether a choice is good: the goal, and whether answers are right."""
    found = {m.key: m for m in metrics if m.per_sample and m.better and m.key in (ANSWERS, goal)}
    return [found[key] for key in dict.fromkeys((goal, ANSWERS)) if key in found]


def selection_curves(
    selection: Selection, metrics: Sequence[Metric], goal: str | None
) -> tuple[SelectionCurve, ...]:
    """Return, by run and metric, a curve for each selector, for a sample at random and for the best of all.

    Args:
        selection: the runs, and what was chosen of them.
        metrics: of the comparison.
        goal: key of the metric that the question is about.
    """
    found: list[SelectionCurve] = []
    scores = scores_of_choices(metrics, goal)
    for p in selection.points:
        choice = selection.choices.get(p.point.label)
        if p.selected_from or choice is None or not scores or p.stored is None:
            continue
        table = read_sample_table(p.stored, [str(metric.per_sample) for metric in scores])
        for metric in scores:
            if (column := table.columns.get(str(metric.per_sample))) is not None:
                found += _curves_of(p, choice, metric, column, is_binary(metric, [table]))
    return tuple(found)


def selection_json(sweep: Sweep, selection: Selection, curves: Sequence[SelectionCurve]) -> dict[str, Any]:
    """Return selection.json: the chosen samples of each run by selector and prompt, and the curves."""
    if not selection.choices:
        return {}
    return {
        "answer_pattern": sweep.compare.get("answer_pattern"),
        "chosen": {label: choice.as_json() for label, choice in selection.choices.items()},
        "curves": [asdict(curve) for curve in curves],
    }


def _curves_of(
    p: PointResult, choice: Choice, metric: Metric, column: np.ndarray, shares: bool
) -> list[SelectionCurve]:
    """Return the curves of one run and metric, over the prompts all of whose samples have it."""
    some = [(c, column[c.rows]) for c in choice.candidates.values()]
    some = [(c, scores) for c, scores in some if np.isfinite(scores).all()]
    samples = min((len(c) for c, _ in some), default=0)
    if samples < 2:
        return []
    sizes = sizes_up_to(samples)
    ways: dict[str, np.ndarray] = {}
    for name in choice.selectors:
        ways[name] = np.stack([expected_scores(BY_NAME[name], c, scores, sizes) for c, scores in some])
    higher = metric.better == "higher"
    ways[ANY] = np.stack([best_possible(scores, higher, sizes) for _, scores in some])
    ways[ONE] = np.stack([np.full(len(sizes), scores.mean()) for _, scores in some])
    every = np.concatenate([table.T for table in ways.values()])
    bands = _bands(every, samples if shares else 0, metric.bounds)
    found = []
    for i, (way, table) in enumerate(ways.items()):
        ends = bands[i * len(sizes) : (i + 1) * len(sizes)]
        found.append(
            SelectionCurve(
                label=p.point.label,
                way=way,
                metric=metric.key,
                sizes=sizes,
                means=tuple(table.mean(axis=0).tolist()),
                lows=tuple(low for low, _ in ends),
                highs=tuple(high for _, high in ends),
                prompts=len(some),
            )
        )
    return found


def _bands(
    rows: np.ndarray, samples: int, bounds: tuple[float, float]
) -> list[tuple[float | None, float | None]]:
    """Return the 95% interval over prompts of the mean of each row (m, P), within what is possible.

    `samples` is the number of samples that shares are of; 0 where they are no shares.
    """
    if samples:
        counts = np.full(rows.shape[1], float(samples))
        return [clustered_wilson(row, counts) for row in rows]
    found = mean_intervals(rows)
    known = np.isfinite(found.low)
    return [
        (max(bounds[0], float(low)), min(bounds[1], float(high))) if ok else (None, None)
        for low, high, ok in zip(found.low, found.high, known, strict=True)
    ]
