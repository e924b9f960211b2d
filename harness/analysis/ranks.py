"""Whether two rankings agree: rank correlations, with ties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1 upwards; ties have the mean of the ranks they take up."""
    array = np.asarray(values, dtype=np.float64)
    below = (array[None, :] < array[:, None]).sum(1)
    same = (array[None, :] == array[:, None]).sum(1)
    return below + (same + 1) / 2


def spearman(values: Sequence[float], others: Sequence[float]) -> float | None:
    """Spearman's rho (1904): Pearson's correlation of the ranks; None where one of them is all ties."""
    one, other = ranks(values), ranks(others)
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 0 else None


def kendall(values: Sequence[float], others: Sequence[float]) -> float | None:
    """Kendall's tau-b (1945), which corrects for ties; None where one of them is all ties."""
    one, other = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    upper = np.triu_indices(len(one), 1)
    a = np.sign(one[:, None] - one[None, :])[upper]
    b = np.sign(other[:, None] - other[None, :])[upper]
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else None
