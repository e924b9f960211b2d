"""Latencies of two points compared, over the prompts that both were timed on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from harness.analysis.latency import tail_is_known
from harness.analysis.statistics.simultaneous import Simultaneous
from harness.analysis.statistics.welch import welch_interval
from harness.store.records import Repetition
from harness.store.stored_point import StoredPoint

Timed = Mapping[tuple[str, int, int | None], Sequence[Repetition]]
"""A point's repetitions by what was timed: prompt id, batch size, output tokens."""


class MeanDifference(NamedTuple):
    """A mean of differences over prompts; None where it has no interval and no p-value."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    prompts: int


def difference_at(found: Simultaneous, index: int) -> MeanDifference:
    """Return one of the differences that were computed together."""
    low, high, p = (
        float(side[index]) if np.isfinite(side[index]) else None for side in (found.low, found.high, found.p)
    )
    return MeanDifference(float(found.mean[index]), low, high, p, int(found.count[index]))


def _itl(r: Repetition, q: float) -> float | None:
    enough = tail_is_known(len(r.itl_ms)) if q > 0.5 else bool(r.itl_ms)
    return float(np.quantile(r.itl_ms, q)) if enough else None


BY_REPETITION: Mapping[str, Callable[[Repetition], float | None]] = {
    "latency/ttft_p50_ms": lambda r: r.ttft_ms,
    "latency/itl_p50_ms": lambda r: _itl(r, 0.5),
    "latency/itl_p95_ms": lambda r: _itl(r, 0.95),
    "latency/total_p50_ms": lambda r: (r.ttft_ms or 0.0) + r.decode_ms,
}
"""The metrics that each repetition has a value of; the others, over all repetitions, have no difference."""


def read_timed(stored: StoredPoint) -> Timed:
    """Return a point's repetitions; empty when it was not timed."""
    if not stored.has("timing.parquet"):
        return {}
    from harness.store.tables import repetitions_of

    found: dict[tuple[str, int, int | None], list[Repetition]] = defaultdict(list)
    for r in repetitions_of(stored.table("timing")):
        found[r.prompt_id, r.batch_size, r.output_tokens].append(r)
    return found


def latency_differences(ours: Timed, theirs: Timed, comparisons: int = 1) -> dict[str, MeanDifference]:
    """Return, by metric, the difference over the prompts that both were timed on in the same way.

    A point's metric is a quantile over all its repetitions; its difference is the mean over prompts of the
    difference between mean times, with the interval of `welch_interval`, one of so many `comparisons`.
    """
    found = {}
    for metric, value_of in BY_REPETITION.items():
        pairs = [
            [[value for r in timed[key] if (value := value_of(r)) is not None] for timed in (ours, theirs)]
            for key in ours
            if key in theirs
        ]
        pairs = [pair for pair in pairs if all(pair)]
        if pairs:
            mine, others = zip(*pairs, strict=True)
            found[metric] = MeanDifference(*welch_interval(mine, others, comparisons), len(pairs))
    return found
