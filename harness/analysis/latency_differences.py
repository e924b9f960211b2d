"""Latencies of two points held against each other, over the prompts that both were timed on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from harness.analysis.latency import quantile
from harness.analysis.statistics import welch_interval
from harness.store.records import Repetition
from harness.store.stored_point import StoredPoint

Timed = Mapping[tuple[str, int, int], Sequence[Repetition]]
"""A point's repetitions by what was timed: prompts, batch size, tokens made."""

Told = tuple[float, float | None, float | None, float | None, int]
"""Mean difference, low, high, p, and over how many prompts (or batches of prompts)."""


def _ttft(r: Repetition) -> float | None:
    return r.ttft_ms


def _total(r: Repetition) -> float:
    return (r.ttft_ms or 0.0) + r.decode_ms


def _itl(percent: int) -> Callable[[Repetition], float | None]:
    return lambda r: quantile(r.itl_ms, percent / 100) if r.itl_ms else None


OF_REPETITION: Mapping[str, Callable[[Repetition], float | None]] = {
    "latency/ttft_p50_ms": _ttft,
    "latency/itl_p50_ms": _itl(50),
    "latency/itl_p95_ms": _itl(95),
    "latency/total_p50_ms": _total,
}
"""What one repetition says about a metric; the others need all of them together: no difference."""


def read_timed(stored: StoredPoint) -> Timed:
    """What was timed of a point; empty when nothing was."""
    if not stored.has("timing.parquet"):
        return {}
    from harness.store.tables import repetitions_of

    found: dict[tuple[str, int, int], list[Repetition]] = defaultdict(list)
    for r in repetitions_of(stored.table("timing")):
        found[r.prompt_id, r.batch_size, r.output_tokens].append(r)
    return found


def latency_differences(ours: Timed, theirs: Timed) -> dict[str, Told]:
    """By metric, the difference over the prompts that both were timed on in the same way.

    A point's metric is a quantile over all its repetitions; its difference is the mean over prompts of the
    difference between mean times, as `welch_interval` says.
    """
    shared = [key for key in ours if key in theirs]
    found = {}
    for metric, of in OF_REPETITION.items():
        sides: tuple[list[list[float]], list[list[float]]] = ([], [])
        for key in shared:
            pair = [[value for r in timed[key] if (value := of(r)) is not None] for timed in (ours, theirs)]
            if all(pair):
                sides[0].append(pair[0])
                sides[1].append(pair[1])
        if sides[0]:
            found[metric] = (*welch_interval(*sides), len(sides[0]))
    return found
