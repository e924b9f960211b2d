"""The Pareto front of points in several metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_front(values: np.ndarray, higher: Sequence[bool]) -> np.ndarray:
    """Return which points no other point dominates.

    A point dominates another if it is at least as good in every metric and better in one. Points that are
    equal in every metric do not dominate each other: they are on the front together.

    Args:
        values: (n, k) finite, one row per point.
        higher: for each metric, whether higher is better.

    Returns:
        (n,) bool.
    """
    gains = np.asarray(values, dtype=np.float64) * np.where(higher, 1.0, -1.0)
    at_least = (gains[:, None, :] >= gains[None, :, :]).all(axis=2)
    better = (gains[:, None, :] > gains[None, :, :]).any(axis=2)
    return np.logical_not((at_least & better).any(axis=0))
