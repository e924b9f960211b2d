"""The Pareto front of points in several metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_front(values: np.ndarray, higher: Sequence[bool]) -> np.ndarray:
    """Return (n,) bool: which points, rows of finite values (n, k), no other point dominates.

    A point dominates another if it is at least as good in every metric and better in one; `higher` is whether
    higher is better, by metric. Points that are equal in every metric are on the front together.
    """
    gains = np.asarray(values, dtype=np.float64) * np.where(higher, 1.0, -1.0)
    at_least = (gains[:, None, :] >= gains[None, :, :]).all(axis=2)
    better = (gains[:, None, :] > gains[None, :, :]).any(axis=2)
    return np.logical_not((at_least & better).any(axis=0))
