"""How much each of several factors affects a metric: eta squared of main effects."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def effect_share(
    values: np.ndarray, factor: Sequence[Hashable], others: Sequence[Sequence[Hashable]] = ()
) -> float:
    """Return eta squared of a factor: the share of the sum of squares that it explains beside the others.

    SS(factor | others) / SS(total), both of least squares on one indicator per level, without interactions:
    type II sums of squares (Yates 1934; Langsrud 2003, Statistics and Computing 13:163). In a balanced design
    it is the classic SS between levels over SS total (Fisher 1925), and the shares add up to 1 at most; in
    an unbalanced one, what two factors explain in common belongs to neither.

    `values` are (n,) of the points, factors the level of each. The share is NaN where all values are equal.
    """
    values = np.asarray(values, dtype=np.float64)
    centred = values - values.mean()
    total = float(centred @ centred)
    if total <= 1e-24 * float(values @ values):
        return float("nan")
    without = _residual(values, others)
    return min(1.0, max(0.0, (without - _residual(values, [*others, factor])) / total))


def level_means(values: np.ndarray, factor: Sequence[Hashable]) -> dict[Hashable, float]:
    """Return the mean of the values at each level, in the order in which levels first occur."""
    levels, codes = _codes(factor)
    means = np.bincount(codes, np.asarray(values, dtype=np.float64)) / np.bincount(codes)
    return dict(zip(levels, means.tolist(), strict=True))


def _codes(factor: Sequence[Hashable]) -> tuple[list[Hashable], np.ndarray]:
    """Return a factor's levels, in the order in which they first occur, and the index of each point's."""
    index_of = {level: index for index, level in enumerate(dict.fromkeys(factor))}
    return list(index_of), np.array([index_of[level] for level in factor], dtype=np.int64)


def _residual(values: np.ndarray, factors: Sequence[Sequence[Hashable]]) -> float:
    """Sum of squares that is left after an intercept and an indicator of each level."""
    if len(factors) == 1:  # the fit is the mean of each level, however many there are
        _, codes = _codes(factors[0])
        left = values - (np.bincount(codes, values) / np.bincount(codes))[codes]
        return float(left @ left)
    columns = [np.ones((len(values), 1))]
    for factor in factors:
        levels, codes = _codes(factor)
        columns.append(np.eye(len(levels))[codes])
    design = np.concatenate(columns, axis=1)
    # Indicators of a factor add up to the intercept: least squares of least norm takes them as they are.
    solution, *_ = np.linalg.lstsq(design, values, rcond=None)
    left = values - design @ solution
    return float(left @ left)
