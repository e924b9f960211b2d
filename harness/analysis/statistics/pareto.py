"""The Pareto front of points in several metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_front(values: np.ndarray, higher: Sequence[bool]) -> np.ndarray:
    """Which points no other point dominates.

    A point dominates another that it equals or beats in every metric and beats in one at least. Points that
    are alike in every metric do not dominate each other: they are on the front together.

    Args:
        values: (n, k) finite, a row a point.
        higher: for each metric, whether more of it is better.

    Returns:
        (n,) bool.
    """
    gains = np.asarray(values, dtype=np.float64) * np.where(higher, 1.0, -1.0)
    at_least = (gains[:, None, :] >= gains[None, :, :]).all(axis=2)
    beats = (gains[:, None, :] > gains[None, :, :]).any(axis=2)
    return np.logical_not((at_least & beats).any(axis=0))
