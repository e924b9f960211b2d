"""Contrasts over the values of a number: weights whose product with a prompt's values is a figure of it.

The least squares fit of a prompt's values is linear in them, so the slope of the mean over prompts is the
mean of the prompts' slopes, and its error is their spread.
"""

from __future__ import annotations

import numpy as np


def slope(values: np.ndarray) -> np.ndarray:
    """Return (n,) weights of the least squares slope over n values, at least two distinct ones."""
    centred = values - values.mean()
    return centred / (centred @ centred)


def curvature(values: np.ndarray) -> np.ndarray | None:
    """Return (n,) weights of the square's coefficient in a least squares parabola; None of fewer than 3."""
    if len(np.unique(values)) < 3:
        return None
    centred = values - values.mean()
    scale = float(np.abs(centred).max())
    z = centred / scale
    design = np.stack([np.ones_like(z), z, z * z], axis=1)
    return np.linalg.pinv(design)[2] / scale**2


def interaction(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (n,) weights of the product term over the n points of a full grid: change per unit of both."""
    product = (first - first.mean()) * (second - second.mean())
    return product / (product @ product)
