"""The scores of outputs in a page: metrics that compare them with a reference, and the user's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.metric_catalog import Metric

SECTIONS = ("reference", "quality", "own")
"""Of metrics that score an output."""


def scores_of(metrics: Sequence[Metric], goal: str | None) -> list[Metric]:
    """Return the metrics that score an output by itself: the one that prompts are sorted by first.

    Args:
        metrics: those of the page.
        goal: key of the metric that the question is about, where it is known.
    """
    scores = [m for m in metrics if m.per_sample and (m.key.partition("/")[0] in SECTIONS or m.key == goal)]
    first = {"reference/chrf": 1, "reference/exact_match": 2, goal: 0}
    return sorted(scores, key=lambda m: first.get(m.key, 3))


def score_json(score: Metric, goal: str | None, binary: bool) -> dict[str, Any]:
    """Return a score as the page has it; `passes`: its value is whether the output passes.

    That is so of a binary one which the question is about. An exact match beside another goal says little: a
    right answer in a sentence of its own does not equal the reference.
    """
    passes = score.key == goal and (score.binary or binary)
    return {
        "column": score.per_sample,
        "name": score.name,
        "description": score.description,
        "better": score.better,
        "passes": passes,
        "decimals": None if score.key.startswith("own/") else score.decimals,
    }


def all_binary(samples: Sequence[tuple[int, Mapping[str, Any]]], column: str | None) -> bool:
    """Return whether every sample of a prompt that has this score has 0 or 1."""
    return all(row.get(str(column)) in (None, 0, 1) for _, row in samples)


def mean_scores(samples: Sequence[tuple[int, Mapping[str, Any]]], column: str | None) -> dict[int, float]:
    """Return the mean score of each point's samples of one prompt, by the point's index; without unscored."""
    values: dict[int, list[float]] = {}
    for point, row in samples:
        value = None if column is None else row.get(column)
        if isinstance(value, int | float) and math.isfinite(value):
            values.setdefault(point, []).append(float(value))
    return {point: math.fsum(some) / len(some) for point, some in values.items()}
