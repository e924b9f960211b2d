"""Latencies of two points compared, over the prompts that both were timed on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.analysis.statistics import welch_interval
from harness.store.records import Repetition
from harness.store.stored_point import StoredPoint

Timed = Mapping[tuple[str, int, int], Sequence[Repetition]]
"""A point's repetitions by what was timed: prompt id, batch size, output tokens."""

LatencyDifference = tuple[float, float | None, float | None, float | None, int]
"""Mean difference, low, high, p, and the number of prompts (or batches of prompts)."""


def _ttft(r: Repetition) -> float | None:
    return r.ttft_ms


def _total(r: Repetition) -> float:
    return (r.ttft_ms or 0.0) + r.decode_ms


def _itl(percent: int) -> Callable[[Repetition], float | None]:
    return lambda r: float(np.quantile(r.itl_ms, percent / 100)) if r.itl_ms else None


BY_REPETITION: Mapping[str, Callable[[Repetition], float | None]] = {
    "latency/ttft_p50_ms": _ttft,
    "latency/itl_p50_ms": _itl(50),
    "latency/itl_p95_ms": _itl(95),
    "latency/total_p50_ms": _total,
}
"""The metrics that each repetition has a value of; the others, over all repetitions, have no difference."""


def read_timed(stored: StoredPoint) -> Timed:
    """Return a point's repetitions; empty when it was not timed."""
    if not stored.has("timing.parquet"):
        return {}
    from harness.store.tables import repetitions_of

    found: dict[tuple[str, int, int], list[Repetition]] = defaultdict(list)
    for r in repetitions_of(stored.table("timing")):
        found[r.prompt_id, r.batch_size, r.output_tokens].append(r)
    return found


def latency_differences(ours: Timed, theirs: Timed) -> dict[str, LatencyDifference]:
    """Return, by metric, the difference over the prompts that both were timed on in the same way.

    A point's metric is a quantile over all its repetitions; its difference is the mean over prompts of the
    difference between mean times, with the interval of `welch_interval`.
    """
    shared = [key for key in ours if key in theirs]
    found = {}
    for metric, value_of in BY_REPETITION.items():
        sides: tuple[list[list[float]], list[list[float]]] = ([], [])
        for key in shared:
            pair = [
                [value for r in timed[key] if (value := value_of(r)) is not None] for timed in (ours, theirs)
            ]
            if all(pair):
                sides[0].append(pair[0])
                sides[1].append(pair[1])
        if sides[0]:
            found[metric] = (*welch_interval(*sides), len(sides[0]))
    return found
