"""What a page is told of precision: quantizations and their costs, the tokens that suffer most, the texts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.drift_costs import Cost, PrecisionReport, precision_report
from harness.analysis.point_results import PointResult
from harness.report.page.drift_columns import (
    DRIFT_COLUMNS,
    LEAST_STEP_BYTES,
    Along,
    drift_piece,
    places_in,
)
from harness.report.page.numbers import short
from harness.report.page.pieces import Pieces, Place
from harness.report.page.prompts_section import STEPS_AT_ONCE
from harness.report.page.shell import safe_json
from harness.report.page.token_columns import Vocabulary
from harness.store.token_table import TokenColumns, TokenVocabulary, collect_samples, read_samples

SHARE = 1 / 3
"""Of a page's budget, what drift may take."""

WORST = 20
"""Places told of a quantization."""

SHARES = 12
"""Tokens told of a quantization by their share of all its divergence."""


@dataclass
class _Text:
    """A prompt and its drift while it is collected.

    Attributes:
        steps: by place of a point, how many.
        kl_mean, kl_max: nats, by place of a point.
        at: its piece, once it is put.
    """

    id: str
    steps: dict[int, int] = field(default_factory=dict)
    kl_mean: dict[int, float] = field(default_factory=dict)
    kl_max: dict[int, float] = field(default_factory=dict)
    at: Place | None = None

    @property
    def all_steps(self) -> int:
        return sum(self.steps.values())


def precision_data(points: Sequence[PointResult], pieces: Pieces) -> dict[str, Any] | None:
    """What the page's script is told; None where no point is held against another.

    Args:
        points: as reported; a point is named by its place here.
        pieces: of the page; gets the drift of the prompts, the worst first, within SHARE of what is left.
    """
    report = precision_report(points)
    if not report:
        return None
    places = {p.point.label: place for place, p in enumerate(points)}
    by_id = {p.point.point_id: place for place, p in enumerate(points) if p.stored}
    references = {
        place: by_id.get(reference)
        for place, p in enumerate(points)
        if p.stored
        and (reference := p.stored.parts().get("drift", {}).get("reference"))
        and p.stored.has("drift.parquet")
    }
    texts = _ranked(points, references)
    vocabulary = Vocabulary(TokenVocabulary())
    told = _put(points, references, texts, pieces, vocabulary)
    number = {text.id: i for i, text in enumerate(texts)}
    return {
        "costs": [_cost(cost, points, places, references) for cost in report.costs],
        "front": list(report.front),
        "agreements": _agreements(report),
        "drifted": [
            [place, reference, [[number[t.id], short(t.kl_mean[place]), short(t.kl_max[place])]
                                for t in texts if place in t.steps]]
            for place, reference in references.items()
        ],
        "texts": pieces.put_json([[text.id, text.at] for text in texts]),
        "words": pieces.put_json([vocabulary.ids, vocabulary.texts]),
        "worst": pieces.put_json(_worst(report, points, places)),
        "notes": _notes(report, texts, told),
    }  # fmt: skip


def _ranked(points: Sequence[PointResult], references: Mapping[int, int | None]) -> list[_Text]:
    """Every prompt with drift, that with the largest divergence of a token first."""
    texts: dict[str, _Text] = {}
    for place in references:
        for row in _kl_by(points[place], "prompt_id"):
            text = texts.setdefault(row["prompt_id"], _Text(row["prompt_id"]))
            count = text.steps[place] = row["kl_count"]
            text.kl_mean[place], text.kl_max[place] = row["kl_sum"] / count, row["kl_max"]
    return sorted(texts.values(), key=lambda text: -max(text.kl_max.values()))


def _kl_by(p: PointResult, *keys: str) -> list[dict[str, Any]]:
    """drift.parquet by these columns: `kl_sum`, `kl_max`, `kl_count`; what is not finite counts as 0."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    assert p.stored is not None
    texts = [key for key in keys if key != "token_id"]
    table = pq.read_table(p.stored.path("drift.parquet"), columns=[*keys, "kl"], read_dictionary=texts)
    table = table.unify_dictionaries()
    kl = pc.if_else(pc.is_finite(table["kl"]), table["kl"], 0.0)
    grouped = table.set_column(len(keys), "kl", kl).group_by(list(keys), use_threads=False)
    rows: list[dict[str, Any]] = grouped.aggregate(
        [("kl", "sum"), ("kl", "max"), ("kl", "count")]
    ).to_pylist()
    return rows


def _shares(points: Sequence[PointResult]) -> list[list[Any]]:
    """[text, id, how often, share] of the tokens that take most of the divergence of these points."""
    sums: dict[tuple[str, int], tuple[float, int]] = {}
    for p in points:
        for row in _kl_by(p, "token", "token_id"):
            key = (row["token"], row["token_id"])
            total, count = sums.get(key, (0.0, 0))
            sums[key] = (total + row["kl_sum"], count + row["kl_count"])
    whole = math.fsum(total for total, _ in sums.values())
    most = sorted(sums.items(), key=lambda item: -item[1][0])[:SHARES]
    return [[*key, count, short(total / whole, 3)] for key, (total, count) in most if total > 0]


def _put(
    points: Sequence[PointResult],
    references: Mapping[int, int | None],
    texts: Sequence[_Text],
    pieces: Pieces,
    vocabulary: Vocabulary,
) -> int:
    """Add the drift of the prompts in their order, until one does not fit; returns how many prompts did."""
    room = int(pieces.left * SHARE)
    told = 0
    for some in _blocks(texts, room // LEAST_STEP_BYTES):
        found = _along(points, references, some, vocabulary.pairs)
        for text in some:
            new = places_in(found[text.id])
            room -= vocabulary.cost(new)
            if room <= 0:
                return told
            vocabulary.keep(new)
            piece = drift_piece(found[text.id], vocabulary)
            room -= len(piece)
            if room < 0:
                return told
            text.at = pieces.put(piece)
            told += 1
    return told


def _blocks(texts: Sequence[_Text], most: int) -> Iterator[list[_Text]]:
    """The prompts by STEPS_AT_ONCE, up to `most` steps."""
    block: list[_Text] = []
    size = total = 0
    for text in texts:
        if block and size + text.all_steps > STEPS_AT_ONCE:
            yield block
            block, size = [], 0
        total += text.all_steps
        if total > most:
            break
        block.append(text)
        size += text.all_steps
    if block:
        yield block


def _along(
    points: Sequence[PointResult],
    references: Mapping[int, int | None],
    texts: Sequence[_Text],
    pairs: TokenVocabulary,
) -> dict[str, list[Along]]:
    """The texts of these prompts under every point, points in their order."""
    found: dict[str, list[Along]] = {text.id: [] for text in texts}
    own: dict[int, dict[tuple[str, int], TokenColumns]] = {}
    for held in {r for r in references.values() if r is not None}:
        stored = points[held].stored
        if stored:
            columns = ("position", "token", "top_tokens", "top_logprobs")
            own[held] = collect_samples(
                read_samples(stored, "tokens", columns, prompts=found, vocabulary=pairs)
            )
    for place, reference in references.items():
        stored = points[place].stored
        assert stored is not None
        for (prompt_id, sample), drifted in collect_samples(
            read_samples(stored, "drift", DRIFT_COLUMNS, prompts=found, vocabulary=pairs)
        ).items():
            steps = own.get(reference, {}).get((prompt_id, sample)) if reference is not None else None
            found[prompt_id].append((-1 if reference is None else reference, place, sample, drifted, steps))
    return found


def _cost(
    cost: Cost,
    points: Sequence[PointResult],
    places: Mapping[str, int],
    references: Mapping[int, int | None],
) -> dict[str, Any]:
    """A quantization; each metric [value, low, high].

    The interval of a mean over points is the mean of theirs: points of one sweep share their prompts, and
    however their errors hang together, that of the mean is no larger than the mean of the errors.
    """
    mine = [places[label] for label in cost.labels]
    cells = {}
    for name, value in cost.metrics.items():
        some = [points[place] for place in mine if name in points[place].metrics]
        if name == "drift/kl_max":
            some = [p for p in some if p.metrics[name] == value][:1]
        ends = [p.intervals[name] for p in some if name in p.intervals]
        low, high = (
            (sum(e[i] for e in ends) / len(ends) for i in (0, 1)) if len(ends) == len(some) else (None, None)
        )
        cells[name] = [short(value, 6), short(low), short(high)]
    steps, never = _partings(points, mine)
    return {
        "model": cost.model,
        "prompts": cost.prompts,
        "quantization": cost.quantization,
        "reference": cost.reference,
        "cells": cells,
        "points": mine,
        "front": cost.on_front,
        "parts": [steps, never],
        "shares": _shares([points[place] for place in mine if place in references]),
    }


def _partings(points: Sequence[PointResult], mine: Sequence[int]) -> tuple[list[list[int]], int]:
    """[step, how many texts part there], and how many never do, over the points of a quantization."""
    counts: dict[int, int] = {}
    never = 0
    for place in mine:
        said = _facts(points[place]).get("first_divergence") or {}
        for step in said.get("steps", ()):
            counts[step] = counts.get(step, 0) + 1
        never += said.get("never", 0)
    return [[step, counts[step]] for step in sorted(counts)], never


def _facts(p: PointResult) -> dict[str, Any]:
    """drift.json of a point; empty where it is not there or half a file."""
    if not p.stored or not p.stored.has("drift.json"):
        return {}
    try:
        facts = json.loads(p.stored.path("drift.json").read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _agreements(report: PrecisionReport) -> list[list[Any]]:
    """[place of the quantization, metric, strategies, Spearman's rho, Kendall's tau]."""
    places = {(c.model, c.prompts, c.quantization): i for i, c in enumerate(report.costs)}
    return [
        [
            places[a.model, a.prompts, a.quantization],
            a.metric,
            a.strategies,
            short(a.spearman, 4),
            short(a.kendall, 4),
        ]
        for a in report.agreements
    ]


def _worst(
    report: PrecisionReport, points: Sequence[PointResult], places: Mapping[str, int]
) -> list[list[dict[str, Any]]]:
    """Of each quantization, the tokens with the largest divergence among those its points tell of."""
    found = []
    for cost in report.costs:
        rows = []
        for label in cost.labels:
            for row in _facts(points[places[label]]).get("worst", ()):
                tops = row.get("top_tokens") or [None]
                rows.append(
                    {
                        "p": places[label],
                        "prompt": row["prompt_id"],
                        "at": [row["sample"], row["position"]],
                        "token": row["token"],
                        "id": row["token_id"],
                        "before": row["before"],
                        "after": row["after"],
                        "kl": short(row["kl"], 6),
                        "lp": short(row["logprob"]),
                        "dlp": short(row["drift_logprob"]),
                        "ranks": [row["rank"], row["drift_rank"]],
                        "best": tops[0],
                    }
                )
        rows.sort(key=lambda row: -(row["kl"] or 0.0))
        # Strategies that wrote the same text suffer at the same token: it is told once.
        distinct: dict[str, dict[str, Any]] = {}
        for row in rows:
            same = [row["prompt"], row["id"], row["at"][1], row["before"], row["after"]]
            distinct.setdefault(safe_json(same), row)
        found.append(list(distinct.values())[:WORST])
    return found


def _notes(report: PrecisionReport, texts: Sequence[_Text], told: int) -> list[str]:
    said = []
    bounded = [c.quantization for c in report.costs if c.metrics.get("drift/kl_error", 0.0) > 0]
    if bounded:
        said.append(
            f"KL is bounded, not exact, at {', '.join(dict.fromkeys(bounded))}: only the reference's "
            "likeliest tokens were kept. Each token says how far its KL may be off; a larger drift.budget_mb "
            "keeps more."
        )
    if told < len(texts):
        said.append(
            f"The drift of {len(texts) - told} of {len(texts)} prompts did not fit this page; those that "
            "suffer most are here, drift.parquet holds all."
        )
    return said
