"""Drift of a quantization beside its means: which tokens it affects most, where outputs diverge."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.analysis.drift_costs import Cost
from harness.analysis.point_results import PointResult
from harness.store.parquet_files import open_parquet

MOST_TOKENS = 12
"""Tokens listed of a quantization by their share of its total KL divergence."""

MOST_WORST = 20
"""Steps listed of a quantization by their KL divergence."""


def kl_by(p: PointResult, *keys: str) -> list[dict[str, Any]]:
    """Return drift.parquet grouped by these columns: `kl_sum`, `kl_max`, `kl_count`.

    KL divergences that are not finite count as 0.
    """
    import pyarrow.compute as pc

    assert p.stored is not None
    texts = [key for key in keys if key != "token_id"]
    with open_parquet(p.stored.path("drift.parquet"), read_dictionary=texts) as file:
        table = file.read(columns=[*keys, "kl"])
    table = table.unify_dictionaries()
    kl = pc.if_else(pc.is_finite(table["kl"]), table["kl"], 0.0)
    grouped = table.set_column(len(keys), "kl", kl).group_by(list(keys), use_threads=False)
    return grouped.aggregate([("kl", "sum"), ("kl", "max"), ("kl", "count")]).to_pylist()


def kl_shares(points: Sequence[PointResult]) -> list[tuple[str, int, int, float]]:
    """Return (text, id, count, share) of the tokens with the largest share of the points' total KL."""
    sums: Counter[tuple[str, int]] = Counter()
    counts: Counter[tuple[str, int]] = Counter()
    for p in points:
        for row in kl_by(p, "token", "token_id"):
            token = (row["token"], row["token_id"])
            sums[token] += row["kl_sum"]
            counts[token] += row["kl_count"]
    all_kl = math.fsum(sums.values())
    return [(*token, counts[token], kl / all_kl) for token, kl in sums.most_common(MOST_TOKENS) if kl > 0]


def cost_intervals(cost: Cost, points: Sequence[PointResult]) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of a quantization's metrics, where all of its points have one.

    The interval of a mean over points is the mean of theirs: points of one sweep share their prompts, and
    however their errors are correlated, that of the mean is no larger than the mean of the errors.
    """
    found = {}
    for name, value in cost.metrics.items():
        some = [p for p in points if name in p.metrics]
        if name == "drift/kl_max":
            some = [p for p in some if p.metrics[name] == value][:1]
        ends = [p.intervals[name] for p in some if name in p.intervals]
        if len(ends) == len(some) > 0:
            low, high = np.mean(ends, axis=0).tolist()
            found[name] = (low, high)
    return found


def divergence_steps(points: Sequence[PointResult]) -> tuple[list[tuple[int, int]], int]:
    """Return (step, outputs that first diverge there) in order, and how many outputs never diverge."""
    counts: Counter[int] = Counter()
    never = 0
    for p in points:
        facts = _facts(p).get("first_divergence") or {}
        counts.update(facts.get("steps", ()))
        never += facts.get("never", 0)
    return sorted(counts.items()), never


def worst_steps(points: Sequence[PointResult]) -> list[tuple[int, dict[str, Any]]]:
    """Return (index of the point, step) of the steps with the largest KL, as drift.json describes them.

    Strategies that generated the same text are affected at the same token, which is listed once.
    """
    rows = [(index, row) for index, p in enumerate(points) for row in _facts(p).get("worst", ())]
    rows.sort(key=lambda entry: -(entry[1]["kl"] or 0.0))
    distinct: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
    for index, row in rows:
        step = tuple(row[name] for name in ("prompt_id", "token_id", "position", "before", "after"))
        distinct.setdefault(step, (index, row))
    return list(distinct.values())[:MOST_WORST]


def _facts(p: PointResult) -> dict[str, Any]:
    """Return drift.json of a point; empty where it does not exist."""
    if not p.stored or not p.stored.has("drift.json"):
        return {}
    return json.loads(p.stored.path("drift.json").read_text(encoding="utf-8"))
