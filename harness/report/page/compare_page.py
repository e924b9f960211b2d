"""`compare.html`: the points of a sweep held against each other, their texts by prompt, their settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.comparison import Cell, Comparison
from harness.analysis.metric_catalog import METRICS, Metric, in_order, metric_of
from harness.analysis.point_results import PointResult
from harness.report.page.curves import entropy_curve, latency_quantiles
from harness.report.page.drift_section import precision_data
from harness.report.page.findings import findings
from harness.report.page.numbers import short
from harness.report.page.palette import palette
from harness.report.page.pieces import Pieces
from harness.report.page.prompts_section import prompt_data
from harness.report.page.settings import settings
from harness.report.page.shell import page
from harness.report.terminal_table import short_names
from harness.store.sweeps import Sweep


def compare_html(
    sweep: Sweep,
    points: Sequence[PointResult],
    pages: Mapping[str, str] | None = None,
    budget_mb: float = 20,
    comparison: Comparison | None = None,
    expectations: Sequence[Any] = (),
    feedback: Sequence[Mapping[str, Any]] = (),
) -> str:
    """One self-contained page.

    Args:
        sweep: whose page it is.
        points: its points as reported.
        pages: address of a point's own page by label, relative to this one; linked when opened from disk.
        budget_mb: megabytes of texts and tokens; past it, the prompts on which strategies disagree most keep
            their tokens, the others their texts.
        comparison: of these points; without one the page shows their values alone.
        expectations: what was expected and what came: `text`, `label`, `prompt_id`, `passed`, `got`.
        feedback: what people said of samples: `label`, `prompt_id`, `sample`, `name`, `value`, `comment`,
            `source`.
    """
    against = comparison or plain_comparison(points)
    places = {p.point.label: place for place, p in enumerate(points)}
    pieces = Pieces(budget_mb)
    precision = precision_data(points, pieces)
    prompts = prompt_data(points, pieces, against.disagreement, against.metrics)
    names = short_names([p.point for p in points])
    data: dict[str, Any] = {
        "kind": "compare",
        "label": sweep.name,
        "facts": _facts(sweep, points),
        "notes": [*against.notes, *prompts.notes],
        "rough": against.approximate,
        "palette": palette(),
        "baseline": places.get(against.baseline) if against.baseline is not None else None,
        "metrics": [told_metric(metric) for metric in against.metrics],
        "points": [
            told_point(p, name, against.cells.get(p.point.label, {}), (pages or {}).get(p.point.label))
            for p, name in zip(points, names, strict=True)
        ],
        "findings": [finding.told() for finding in findings(points, against.disagreement)],
        "effects": [
            [e.metric, e.factor, short(e.share), short(e.spread), {k: short(v) for k, v in e.levels.items()}]
            for e in against.effects
        ],
        "front": _front(against, places),
        "precision": precision,
        "noise": {key: short(value) for key, value in against.noise.items()},
        "selfBleu": {key: short(value, 3) for key, value in against.self_bleu.items()},
        "expectations": [told_expectation(e, places) for e in expectations],
        "feedback": [told for f in feedback if (told := _told_feedback(f, places))],
        "prompts": prompts.index,
        "promptCount": prompts.count,
        "vocabulary": prompts.vocabulary,
        "settings": pieces.put_json([settings(p.stored) if p.stored else {} for p in points]),
    }
    return page(f"{sweep.name} · comparison", data, pieces.text(), charts=True)


def plain_comparison(points: Sequence[PointResult]) -> Comparison:
    """The points' values with their intervals, and nothing held against anything."""
    own = {key: metric for p in points for key, metric in p.custom_metrics.items()}
    return Comparison(
        baseline=None,
        metrics=tuple(metric_of(key, own) for key in in_order(key for p in points for key in p.metrics)),
        cells={
            p.point.label: {
                key: Cell(value, *p.intervals.get(key, (None, None))) for key, value in p.metrics.items()
            }
            for p in points
        },
    )


def told_metric(metric: Metric) -> dict[str, Any]:
    """A metric as the page is told it."""
    return {
        "key": metric.key,
        "name": metric.name,
        "says": metric.description,
        "unit": metric.unit,
        "decimals": metric.decimals,
        "better": metric.better,
        "column": metric.per_sample,
        "known": any(known.key == metric.key for known in METRICS),
        "head": metric.visibility == "headline",
    }


def told_point(p: PointResult, name: str, cells: Mapping[str, Cell], address: str | None) -> dict[str, Any]:
    """A point as the page is told it."""
    point = p.point
    return {
        "label": point.label,
        "name": name,
        "id": point.point_id,
        "model": point.model,
        "quantization": point.quantization,
        "prompts": point.prompts,
        "decoding": point.decoding,
        "status": point.status,
        "error": point.error,
        "traceback": point.traceback,
        "warnings": list(point.warnings),
        "page": address,
        "finishes": dict(p.finishes),
        "cells": {key: _cell(cell) for key, cell in cells.items() if math.isfinite(cell.value)},
        "entropy": entropy_curve(p.stored) if p.stored else [],
        "latency": latency_quantiles(p.stored) if p.stored else {},
    }


def _cell(cell: Cell) -> list[Any]:
    """[value, low, high] and, where it is held against the baseline, the difference."""
    told: list[Any] = [short(cell.value, 6), short(cell.low), short(cell.high)]
    d = cell.difference
    if d is not None:
        told.append(
            [
                short(d.mean),
                short(d.low),
                short(d.high),
                short(d.p, 2),
                d.word,
                d.verdict,
                d.within_noise,
                d.prompts,
            ]
        )
    return told


def _front(comparison: Comparison, places: Mapping[str, int]) -> dict[str, Any] | None:
    front = comparison.front
    if front is None:
        return None
    return {
        "metrics": list(front.metrics),
        "points": [places[label] for label in front.labels if label in places],
        "compared": [places[label] for label in front.compared if label in places],
    }


def told_expectation(expectation: Any, places: Mapping[str, int]) -> dict[str, Any]:
    """An expectation as the page is told it; of whatever record it is."""

    def of(name: str) -> Any:
        return getattr(expectation, name, None)

    label, got = of("label"), of("got")
    return {
        "text": str(of("text") or ""),
        "point": places.get(label) if label is not None else None,
        "prompt": of("prompt_id"),
        "passed": bool(of("passed")),
        "got": None if got is None else str(got),
    }


def _told_feedback(feedback: Mapping[str, Any], places: Mapping[str, int]) -> list[Any] | None:
    """[point, prompt, sample, name, value, comment, source]; None where the point is not of this sweep."""
    place = places.get(str(feedback.get("label")))
    if place is None:
        return None
    value = feedback.get("value")
    if isinstance(value, float) and not math.isfinite(value):
        value = None
    if not isinstance(value, bool | int | float | str | None):
        value = str(value)
    said = [feedback.get(name) for name in ("comment", "source")]
    return [
        place,
        str(feedback.get("prompt_id")),
        feedback.get("sample") or 0,
        str(feedback.get("name") or "feedback"),
        value,
        *(None if text is None else str(text) for text in said),
    ]


def _facts(sweep: Sweep, points: Sequence[PointResult]) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [("points", len(points))]
    failed = sum(p.point.status == "failed" for p in points)
    if failed:
        facts.append(("failed", failed))
    prompts = {prompt_id for p in points for prompt_id in p.prompt_ids}
    facts.append(("prompts", len(prompts)))
    facts.append(("texts", sum(sum(p.finishes.values()) for p in points)))
    for name in ("model", "quantization", "prompts"):
        values = {getattr(p.point, name) for p in points}
        if len(values) == 1 and len(points) > 1:
            facts.append(("prompt set" if name == "prompts" else name, values.pop()))
    return [*facts, ("sweep", sweep.sweep_id)]
