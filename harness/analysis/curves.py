"""What the charts draw of a point: its entropy by token position, and its latencies as quantiles."""

from __future__ import annotations

import numpy as np

from harness.store.stored_point import StoredPoint
from harness.store.token_table import read_blocks

POSITIONS = 512
"""Positions of a curve; those of longer outputs are left out."""

QUANTILES = 41
"""Of a distribution, from the smallest to the largest in equal steps."""

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


def latency_quantiles(stored: StoredPoint) -> dict[str, list[float]]:
    """Return QUANTILES of the measured times to first token (`ttft`) and between tokens (`itl`), ms."""
    if not stored.has("timing.parquet"):
        return {}
    columns = stored.columns("timing", ["ttft_ms", "itl_ms"])
    times = {
        "ttft": [value for value in columns["ttft_ms"] if value is not None],
        "itl": [value for values in columns["itl_ms"] for value in values or ()],
    }
    steps = np.linspace(0, 1, QUANTILES)
    return {name: np.quantile(values, steps).tolist() for name, values in times.items() if values}
