"""What the charts draw of a point: its entropy by token position, and its measured latencies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.analysis.latency import tail_is_known
from harness.store.stored_point import StoredPoint
from harness.store.token_table import read_blocks

POSITIONS = 512
"""Positions of a curve; those of longer outputs are left out."""

MEASUREMENTS = 200
"""Measurements of a distribution that are drawn; of more, so many that are equally far apart in rank."""

LEAST_SHARE = 0.1
"""Where a smaller share of the samples reaches a position, a mean describes them rather than the position."""


def entropy_curve(stored: StoredPoint) -> list[float]:
    """Return the mean entropy (raw, nats) at each token position, over the samples that reach it.

    NaN at a position without any; empty where no entropies were recorded.
    """
    sums, counts = np.zeros(POSITIONS), np.zeros(POSITIONS, np.int64)
    for block in read_blocks(stored, "tokens", ["position", "entropy"]):
        position, entropy = block.columns["position"], block.columns["entropy"].astype(np.float64)
        known = (position < POSITIONS) & np.isfinite(entropy)
        sums += np.bincount(position[known], entropy[known], POSITIONS)
        counts += np.bincount(position[known], minlength=POSITIONS)
    enough = counts >= max(1.0, LEAST_SHARE * counts.max())
    length = int(enough.nonzero()[0].max(initial=-1)) + 1
    with np.errstate(invalid="ignore"):
        return (sums / counts)[:length].tolist()


class Latencies(NamedTuple):
    """The distribution of a latency in ms.

    Attributes:
        measured: number of measurements.
        times: the measurements, ascending; evenly thinned where they are over MEASUREMENTS.
        quartiles: the 25th, 50th and 75th percentile of all measurements.
        tails: the 5th and the 95th; None of so few that no measurement is beyond them.
    """

    measured: int
    times: list[float]
    quartiles: list[float]
    tails: list[float] | None


def measured_latencies(stored: StoredPoint) -> dict[str, Latencies]:
    """Return the measured times to first token (`ttft`) and between tokens (`itl`)."""
    if not stored.has("timing.parquet"):
        return {}
    columns = stored.columns("timing", ["ttft_ms", "itl_ms"])
    times = {
        "ttft": [value for value in columns["ttft_ms"] if value is not None],
        "itl": [value for values in columns["itl_ms"] for value in values or ()],
    }
    return {name: _latencies(np.sort(values)) for name, values in times.items() if values}


def _latencies(values: np.ndarray) -> Latencies:
    drawn = min(len(values), MEASUREMENTS)
    ranks = np.linspace(0, len(values) - 1, drawn).round().astype(np.int64)
    quartiles, tails = np.quantile(values, (0.25, 0.5, 0.75)), np.quantile(values, (0.05, 0.95))
    known = tails.tolist() if tail_is_known(len(values)) else None
    return Latencies(len(values), values[ranks].tolist(), quartiles.tolist(), known)
