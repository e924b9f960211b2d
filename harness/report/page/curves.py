"""What the charts draw of a point: its entropy along the position, and its latencies as quantiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.report.page.numbers import short
from harness.store.stored_point import StoredPoint

POSITIONS = 512
"""Positions of a curve; those of longer texts are left out."""

QUANTILES = 41
"""Of a distribution, from the least to the most in equal steps."""

FEW = 0.1
"""Where fewer than this share of the samples go on, a mean says more of them than of the position."""


def entropy_curve(stored: StoredPoint) -> list[float | int | None]:
    """Mean entropy (raw, nats) of the step at each position, over the samples that reach it."""
    if not stored.has("tokens.parquet"):
        return []
    import numpy as np

    sums, counts = np.zeros(POSITIONS), np.zeros(POSITIONS, np.int64)
    try:
        for batch in stored.batches("tokens", ["position", "entropy"]):
            place, value = batch["position"], batch["entropy"].astype(np.float64)
            known = (place < POSITIONS) & np.isfinite(value)
            sums += np.bincount(place[known], value[known], POSITIONS)
            counts += np.bincount(place[known], minlength=POSITIONS)
    except KeyError:
        return []
    enough = counts >= max(1.0, FEW * counts.max())
    length = int(enough.nonzero()[0].max(initial=-1)) + 1
    return [short(sums[i] / counts[i]) if counts[i] else None for i in range(length)]


def latency_quantiles(stored: StoredPoint) -> dict[str, list[Any]]:
    """QUANTILES of times to first token (`ttft`) and between tokens (`itl`), ms; those that were taken."""
    if not stored.has("timing.parquet"):
        return {}
    columns = stored.columns("timing", ["ttft_ms", "itl_ms"])
    between = [value for values in columns["itl_ms"] for value in values or ()]
    found = {"ttft": _quantiles(columns["ttft_ms"]), "itl": _quantiles(between)}
    return {name: values for name, values in found.items() if values}


def _quantiles(values: Iterable[float | None]) -> list[float | int | None]:
    import numpy as np

    known = [value for value in values if value is not None]
    if not known:
        return []
    return [short(float(q)) for q in np.quantile(known, np.linspace(0, 1, QUANTILES))]
