"""`compare.html`: the points of a sweep compared with each other, their outputs by prompt, their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.analysis.comparison import Comparison, plain_comparison
from harness.analysis.factors import factors_of
from harness.analysis.goal import goal_of
from harness.analysis.output_agreement import agreement
from harness.analysis.point_results import PointResult
from harness.report.page.answer_json import answer_data, first_metrics
from harness.report.page.chunks import CompressedChunks
from harness.report.page.palette import PALETTE
from harness.report.page.point_json import (
    agreement_json,
    effect_json,
    expectation_json,
    feedback_json,
    front_json,
    metric_json,
    point_json,
    preferences_json,
    selected_json,
)
from harness.report.page.prompts_section import prompts_section
from harness.report.page.quantization_section import quantization_section
from harness.report.page.selection_json import selection_charts
from harness.report.page.settings import settings
from harness.report.page.shell import page, short
from harness.report.page.speculation_json import speculation_rows
from harness.report.point_names import short_names
from harness.store.sweeps import Sweep
from harness.store.votes import Vote


def compare_html(
    sweep: Sweep,
    points: Sequence[PointResult],
    pages: Mapping[str, str] | None = None,
    budget_mb: float = 20,
    comparison: Comparison | None = None,
    expectations: Sequence[Any] = (),
    feedback: Sequence[Mapping[str, Any]] = (),
    votes: Sequence[Vote] = (),
) -> str:
    """Return the page, a self-contained HTML file.

    Args:
        sweep: the sweep.
        points: the results of its points.
        pages: address of each point's tokens page by label, relative to this one.
        budget_mb: megabytes of texts and tokens; past it, the prompts on which strategies disagree most keep
            their tokens, the others their texts.
        comparison: of these points; without one the page shows their values alone.
        expectations: what was expected and what came: `text`, `label`, `prompt_id`, `passed`, `got`.
        feedback: what people said of samples: `label`, `prompt_id`, `sample`, `name`, `value`, `comment`,
            `source`.
        votes: of blind comparisons.
    """
    compared = comparison or plain_comparison(points)
    indices = {p.point.label: index for index, p in enumerate(points)}
    chunks = CompressedChunks(budget_mb)
    quantization = quantization_section(points, chunks)
    goal, _ = goal_of(sweep, compared.metrics)
    prompts, notes = prompts_section(
        points, chunks, compared.metrics, compared.disagreement, goal.key if goal else None
    )
    names = short_names([p.point for p in points])
    first = first_metrics(compared)
    metrics = sorted(compared.metrics, key=lambda m: first.index(m.key) if m.key in first else len(first))
    data: dict[str, Any] = {
        "kind": "compare",
        "label": sweep.title,
        "sweepId": sweep.sweep_id,
        "facts": _facts(sweep, points),
        "notes": [*compared.notes, *notes],
        "approximate": compared.approximate,
        "palette": PALETTE,
        "baseline": None if compared.baseline is None else indices.get(compared.baseline),
        "metrics": [metric_json(metric, metric.key in first) for metric in metrics],
        "points": [
            point_json(p, name, compared.cells.get(p.point.label, {}), (pages or {}).get(p.point.label))
            | {"selected": selected_json(p, indices)}
            for p, name in zip(points, names, strict=True)
        ],
        "selection": selection_charts(
            compared.selection, indices, {metric.key: metric.binary for metric in metrics}
        ),
        "speculation": speculation_rows(points),
        **answer_data(compared, list(indices)),
        "factors": [[name, *_levels(factor.levels)] for name, factor in factors_of(points).items()],
        "effects": [effect_json(effect) for effect in compared.effects],
        "front": front_json(compared.front, indices),
        "quantization": quantization,
        "noise": {key: short(value) for key, value in compared.noise.items()},
        "selfBleu": [[prompt_id, short(value, 3)] for prompt_id, value in compared.self_bleu.items()],
        "expectations": [expectation_json(e, indices) for e in expectations],
        "feedback": [found for f in feedback if (found := feedback_json(f, indices))],
        "agreement": agreement_json(agreement([_without_choice(p) for p in points])),
        "voteCount": len(votes),
        "preferences": preferences_json(votes, indices),
        **prompts,
        "settings": chunks.put_json([settings(p.stored) if p.stored else {} for p in points]),
    }
    return page(f"{sweep.title} · comparison", data, chunks.text(), charts=True)


def _levels(levels: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the distinct levels, and the index of each point's level among them."""
    distinct = {level: index for index, level in enumerate(dict.fromkeys(levels))}
    return list(distinct), [distinct[level] for level in levels]


def _without_choice(p: PointResult) -> PointResult:
    """Return the point; of chosen samples, which are another run's, without them."""
    return replace(p, stored=None) if p.selected_from else p


def _facts(sweep: Sweep, points: Sequence[PointResult]) -> list[tuple[str, Any]]:
    chosen = sum(p.selected_from > 0 for p in points)
    points = [p for p in points if not p.selected_from]
    failed = sum(p.point.status == "failed" for p in points)
    facts: list[tuple[str, Any]] = [
        ("runs", len(points)),
        *([("failed", failed)] if failed else []),
        *([("selections", chosen)] if chosen else []),
        ("prompts", len({prompt_id for p in points for prompt_id in p.prompt_ids})),
        ("outputs", sum(sum(p.finishes.values()) for p in points)),
    ]
    for name in ("model", "quantization", "prompts"):
        values = {getattr(p.point, name) for p in points}
        if len(values) == 1 and len(points) > 1:
            facts.append(("prompt set" if name == "prompts" else name, values.pop()))
    return [*facts, ("sweep", sweep.sweep_id)]
