"""Metrics, points, expectations and feedback as JSON of the pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.analysis.comparison import Cell, Effect, Front
from harness.analysis.curves import Latencies, entropy_curve, measured_latencies
from harness.analysis.metric_catalog import METRICS, Metric
from harness.analysis.output_agreement import Agreement
from harness.analysis.point_results import PointResult
from harness.analysis.preferences import WIN_RATE, preferences
from harness.report.page.shell import short
from harness.store.votes import Vote

SELECT = "compare.select"
"""Among what varies, the key that has the selector of a row of chosen samples."""

FACTS = (
    "label", "model", "quantization", "prompts", "decoding", "status", "error", "traceback", "warnings",
)  # fmt: skip
"""Of a SweepPoint, what the pages show as it is."""


def metric_json(metric: Metric, first: bool = False) -> dict[str, Any]:
    """Return a metric as the pages have it; means of feedback are shown among the key metrics, as `first`."""
    if metric.key.startswith("feedback/"):
        metric = replace(metric, description="mean of the feedback given in MLflow", unit="feedback",
                         decimals=2, visibility="headline")  # fmt: skip
    return {
        **{
            name: getattr(metric, name)
            for name in ("key", "name", "description", "unit", "decimals", "better")
        },
        "width": width if math.isfinite(width := metric.bounds[1] - metric.bounds[0]) else None,
        "known": any(known.key == metric.key for known in METRICS) or metric.unit == "feedback",
        "headline": first or metric.visibility == "headline" or metric.key == WIN_RATE,
    }


def point_json(p: PointResult, name: str, cells: Mapping[str, Cell], address: str | None) -> dict[str, Any]:
    """Return a point as the pages have it; `address` is that of its tokens page, relative to the page."""
    latencies = measured_latencies(p.stored) if p.stored else {}
    return {
        **{fact: getattr(p.point, fact) for fact in FACTS},
        "name": name,
        "id": p.point.point_id,
        "page": address,
        "cells": {key: _cell_json(cell) for key, cell in cells.items() if math.isfinite(cell.value)},
        "entropy": list(map(short, entropy_curve(p.stored))) if p.stored else [],
        "latency": {kind: _latency_json(found) for kind, found in latencies.items()},
    }


def selected_json(p: PointResult, indices: Mapping[str, int]) -> dict[str, Any] | None:
    """Return whose samples a row of chosen ones holds, of how many and by what; None of a run."""
    if not p.selected_from:
        return None
    return {"of": indices.get(p.selected_of), "from": p.selected_from, "by": p.point.varied.get(SELECT)}


def _latency_json(found: Latencies) -> dict[str, Any]:
    return {
        "count": found.measured,
        "times": list(map(short, found.times)),
        "quartiles": list(map(short, found.quartiles)),
        "tails": found.tails and list(map(short, found.tails)),
    }


def _cell_json(cell: Cell) -> list[Any]:
    """Return [value, low, high, difference from the baseline, whether it is constant], without empty ends."""
    row: list[Any] = [short(cell.value, 6), short(cell.low), short(cell.high)]
    if cell.constant:
        row[1:] = [None, None]
    d = cell.difference
    if d is not None:
        numbers = [short(d.mean), short(d.low), short(d.high), short(d.p, 2)]
        row.append([*numbers, d.word, d.verdict, d.within_noise, d.prompts])
    elif cell.constant:
        row.append(None)
    return [*row, True] if cell.constant else row


def effect_json(effect: Effect) -> list[Any]:
    """Return [metric, factor, share, spread, [level, mean] of each level, what it is confounded with]."""
    levels = [[level, short(mean)] for level, mean in effect.levels.items()]
    return [
        effect.metric, effect.factor, short(effect.share), short(effect.spread), levels, effect.confounded,
    ]  # fmt: skip


def front_json(front: Front | None, indices: Mapping[str, int]) -> dict[str, Any] | None:
    """Return the Pareto front as the page has it, its points by index."""
    if front is None:
        return None
    return {
        "metrics": list(front.metrics),
        "points": [indices[label] for label in front.labels if label in indices],
    }


def expectation_json(expectation: Any, indices: Mapping[str, int]) -> dict[str, Any]:
    """Return an expectation, whatever record it is, as the page has it; its point by index."""
    names = ("text", "label", "prompt_id", "passed", "got")
    text, label, prompt_id, passed, got = (getattr(expectation, name, None) for name in names)
    return {
        "text": str(text or ""),
        "point": indices.get(label) if label is not None else None,
        "prompt": prompt_id,
        "passed": bool(passed),
        "got": _text(got),
    }


def feedback_json(feedback: Mapping[str, Any], indices: Mapping[str, int]) -> dict[str, Any] | None:
    """Return a piece of feedback as the page has it; None where its point is not in this sweep."""
    index = indices.get(str(feedback.get("label")))
    if index is None:
        return None
    value = feedback.get("value")
    if isinstance(value, float) and not math.isfinite(value):
        value = None
    return {
        "point": index,
        "prompt": str(feedback.get("prompt_id")),
        "sample": feedback.get("sample") or 0,
        "name": str(feedback.get("name") or "feedback"),
        "value": value if isinstance(value, bool | int | float) else _text(value),
        "comment": _text(feedback.get("comment")),
        "source": _text(feedback.get("source")),
    }


def agreement_json(found: Agreement | None) -> dict[str, Any] | None:
    """Return the agreement of the points as the page has it."""
    if found is None:
        return None
    matrix = [[short(value, 3) for value in row] for row in found.matrix.tolist()]
    return {"unit": found.unit, "prompts": found.prompts, "matrix": matrix}


def preferences_json(votes: Sequence[Vote], indices: Mapping[str, int]) -> list[list[Any]]:
    """Return [point, wins, ties, losses, win rate, low, high] of each point, the highest rate first."""
    return [
        [indices[p.label], p.wins, p.ties, p.losses, short(p.rate), *map(short, p.interval)]
        for p in preferences(votes)
        if p.label in indices
    ]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
