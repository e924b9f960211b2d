"""pass@k: how likely one of k samples is right, and expectations over subsets of ranked samples."""

from __future__ import annotations

import numpy as np


def pass_at_k(samples: int, correct: int) -> np.ndarray:
    """Return (n,) the unbiased estimates of pass@1 to pass@n of one prompt: 1 - C(n-c, k) / C(n, k).

    (Chen et al. 2021, arXiv:2107.03374, eq. 1.) With n samples, c of them correct, it is the share of the
    subsets of k samples that contain a correct one.
    """
    k = np.arange(1, samples + 1)
    # C(n-c, k) / C(n, k) is the product of (n-c-i) / (n-i) over i < k: no factorial overflows.
    factors = np.maximum(samples - correct - (k - 1), 0) / (samples - (k - 1))
    return 1.0 - np.cumprod(factors)


def best_rank_weights(samples: int, size: int) -> np.ndarray:
    """Return (n,) how likely the i-th best of n samples is the best of a random subset of this size.

    That is C(n-1-i, size-1) / C(n, size), i from 0; the weights sum to 1.
    """
    left = np.arange(samples - 1, 0, -1)  # samples that rank below the i-th
    ratios = np.maximum(left - size + 1, 0) / left
    return np.asarray(size / samples * np.concatenate([[1.0], np.cumprod(ratios)]))
