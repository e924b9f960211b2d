"""The quantizations of a page: what each costs, its most affected tokens, and the drift of every prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.analysis.drift_costs import Cost, PrecisionReport, precision_report, reference_of
from harness.analysis.drift_details import cost_intervals, divergence_steps, kl_by, kl_shares, worst_steps
from harness.analysis.point_results import PointResult
from harness.report.page.chunks import CompressedChunks
from harness.report.page.columns import Block, PageVocabulary, recorded
from harness.report.page.shell import short
from harness.report.page.token_budget import PagePrompt, add_tokens, samples_of
from harness.store.token_table import TokenColumns, TokenVocabulary

SHARE = 1 / 3
"""Of a page's budget, what drift may take."""

LEAST_STEP_SIZE = 4
"""Characters of a page that no step takes less of, even where precisions agree."""

REFERENCE_COLUMNS = ("token", "logprob", "rank", "entropy")
DRIFT_COLUMNS = (
    "kl", "kl_error", "total_variation", "drift_logprob", "drift_rank", "drift_entropy", "same_top",
    "top_tokens", "top_logprobs",
)  # fmt: skip
"""Of drift.parquet: what the reference made of each token, and what the quantized model did."""

ALTERNATIVES = ("top_tokens", "top_logprobs")


@dataclass
class _DriftPrompt(PagePrompt):
    """A prompt with its KL divergences in nats, by index of the quantized point."""

    kl_mean: dict[int, float] = field(default_factory=dict)
    kl_max: dict[int, float] = field(default_factory=dict)


def quantization_section(points: Sequence[PointResult], chunks: CompressedChunks) -> dict[str, Any] | None:
    """Add the drift of these points to a page, the prompts with the largest divergence first.

    Args:
        points: the results; a point is referred to by its index here.
        chunks: of the page; drift takes up to SHARE of what is left of their budget.

    Returns:
        What the page's script gets; None where no point is compared with a reference.
    """
    report = precision_report(points)
    if not report:
        return None
    indices = {p.point.label: index for index, p in enumerate(points)}
    points_of = [[indices[label] for label in cost.labels] for cost in report.costs]
    references = _references(points)
    prompts = _prompts_of(points, references)
    vocabulary = PageVocabulary(TokenVocabulary())

    def read(some: Sequence[_DriftPrompt]) -> dict[str, list[Block]]:
        return _blocks_of(points, references, some, vocabulary.tokens)

    added = add_tokens(prompts, read, chunks, vocabulary, int(chunks.left * SHARE), LEAST_STEP_SIZE)
    return {
        "costs": [_cost_json(cost, mine, points, references)
                  for cost, mine in zip(report.costs, points_of, strict=True)],
        "front": report.front,
        "agreements": _agreements_json(report),
        "drifted": [
            [point, reference, [[i, short(prompt.kl_mean[point]), short(prompt.kl_max[point])]
                                for i, prompt in enumerate(prompts) if point in prompt.steps]]
            for point, reference in references.items()
        ],
        "prompts": chunks.put_json([[prompt.id, prompt.tokens_at] for prompt in prompts]),
        "vocabulary": chunks.put_json(vocabulary.as_json()),
        "worst": chunks.put_json([_worst_json(mine, points) for mine in points_of]),
        "notes": _notes(report, len(prompts), added),
    }  # fmt: skip


def _references(points: Sequence[PointResult]) -> dict[int, int | None]:
    """Return the index of each quantized point's reference, None where that is not in the sweep any more."""
    runs = [(index, p) for index, p in enumerate(points) if p.stored and not p.selected_from]
    by_id = {p.point.point_id: index for index, p in runs}
    return {
        index: by_id.get(reference)
        for index, p in enumerate(points)
        if (reference := reference_of(p)) and p.stored and p.stored.has("drift.parquet")
    }


def _prompts_of(points: Sequence[PointResult], references: Mapping[int, int | None]) -> list[_DriftPrompt]:
    """Return every prompt with drift, that with the largest divergence of a token first."""
    prompts: dict[str, _DriftPrompt] = {}
    for index in references:
        for row in kl_by(points[index], "prompt_id"):
            prompt = prompts.setdefault(row["prompt_id"], _DriftPrompt(row["prompt_id"]))
            count = prompt.steps[index] = row["kl_count"]
            prompt.kl_mean[index], prompt.kl_max[index] = row["kl_sum"] / count, row["kl_max"]
    return sorted(prompts.values(), key=lambda prompt: -max(prompt.kl_max.values()))


def _blocks_of(
    points: Sequence[PointResult],
    references: Mapping[int, int | None],
    prompts: Sequence[_DriftPrompt],
    tokens: TokenVocabulary,
) -> dict[str, list[Block]]:
    """Return the blocks of each prompt: a reference's sample once, and its drift at every quantized point."""
    found: dict[str, list[Block]] = {prompt.id: [] for prompt in prompts}
    reference_blocks: dict[tuple[int | None, str, int], int] = {}
    alternatives = {
        index: samples_of(points[index], "tokens", ALTERNATIVES, found, tokens)
        for index in {r for r in references.values() if r is not None}
    }
    for index, reference in references.items():
        drifted = samples_of(points[index], "drift", (*REFERENCE_COLUMNS, *DRIFT_COLUMNS), found, tokens)
        for (prompt_id, sample), steps in drifted.items():
            blocks = found[prompt_id]
            key = (reference, prompt_id, sample)
            if key not in reference_blocks:
                reference_blocks[key] = len(blocks)
                own = alternatives[reference].get((prompt_id, sample)) if reference is not None else None
                blocks.append(_reference_block(reference, steps, own))
            blocks.append(_drift_block(index, reference_blocks[key], steps))
    return found


def _reference_block(reference: int | None, steps: TokenColumns, own: TokenColumns | None) -> Block:
    """Return what the reference made of its sample; `own` has its alternatives, if it recorded all steps."""
    columns = {name: steps[name] for name in REFERENCE_COLUMNS}
    if own is not None and len(own) == len(steps):
        columns |= {name: own[name] for name in ALTERNATIVES}
    return Block({"kind": "reference", "point": reference, "sample": steps.sample}, recorded(columns))


def _drift_block(point: int, reference_block: int, steps: TokenColumns) -> Block:
    """Return what a quantized model made of the sample in `reference_block`."""
    columns = {name: steps[name] for name in DRIFT_COLUMNS if name not in ("drift_logprob", *ALTERNATIVES)}
    columns |= {f"drift_{name}": steps[name] for name in ALTERNATIVES}
    with np.errstate(invalid="ignore"):
        columns["logprob_change"] = steps["drift_logprob"].astype(np.float64) - steps["logprob"]
    return Block({"kind": "drift", "point": point, "reference": reference_block}, recorded(columns))


def _cost_json(
    cost: Cost, mine: Sequence[int], points: Sequence[PointResult], references: Mapping[int, int | None]
) -> dict[str, Any]:
    """Return a quantization of the points `mine` as the page has it; a metric is [value, low, high]."""
    results = [points[index] for index in mine]
    intervals = cost_intervals(cost, results)
    steps, never = divergence_steps(results)
    shares = kl_shares([points[index] for index in mine if index in references])
    return {
        "model": cost.model,
        "prompts": cost.prompts,
        "quantization": cost.quantization,
        "reference": cost.reference,
        "reference_model": cost.reference_model,
        "stored": next(filter(None, map(_stored_quantization, results)), None),
        "cells": {
            name: [short(value, 6), *map(short, intervals.get(name, (None, None)))]
            for name, value in cost.metrics.items()
        },
        "points": mine,
        "front": cost.on_front,
        "divergences": [steps, never],
        "shares": [[text, token_id, count, short(share, 3)] for text, token_id, count, share in shares],
    }


def _stored_quantization(result: PointResult) -> str | None:
    """Return how the checkpoint of a point was quantized before it was stored."""
    if result.stored is None or not result.stored.has("environment.json"):
        return None
    return result.stored.environment().get("model", {}).get("stored_quantization")


def _agreements_json(report: PrecisionReport) -> list[tuple[Any, ...]]:
    """Return [index of the quantization, metric, strategies, Spearman's rho, Kendall's tau] of each."""
    index = {(c.model, c.prompts, c.quantization): i for i, c in enumerate(report.costs)}
    return [
        (
            index[a.model, a.prompts, a.quantization],
            a.metric,
            a.strategies,
            short(a.spearman),
            short(a.kendall),
        )
        for a in report.agreements
    ]


def _worst_json(mine: Sequence[int], points: Sequence[PointResult]) -> list[dict[str, Any]]:
    """Return the steps of a quantization of the points `mine` with the largest divergence."""
    return [
        {
            "point": mine[i],
            "prompt": row["prompt_id"],
            "at": [row["sample"], row["position"]],
            "id": row["token_id"],
            **{name: row[name] for name in ("token", "before", "after")},
            "kl": short(row["kl"], 6),
            "logprob": short(row["logprob"]),
            "drift_logprob": short(row["drift_logprob"]),
            "best": (row.get("top_tokens") or [None])[0],
        }
        for i, row in worst_steps([points[index] for index in mine])
    ]


def _notes(report: PrecisionReport, prompts: int, added: int) -> list[str]:
    notes = []
    bounded = [c.quantization for c in report.costs if c.metrics.get("drift/kl_error", 0.0) > 0]
    if bounded:
        notes.append(
            f"KL is bounded, not exact, for {', '.join(dict.fromkeys(bounded))}: only the reference's most "
            "likely tokens were stored. Each token shows its error bound; a larger drift.budget_mb stores "
            "more."
        )
    if added < prompts:
        notes.append(
            f"The drift of {prompts - added} of {prompts} prompts did not fit into this page, which has the "
            "most affected ones; drift.parquet contains all."
        )
    return notes
