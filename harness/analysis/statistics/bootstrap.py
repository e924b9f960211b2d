"""A confidence interval of a mean over prompts, and the p-value that goes with it.

The interval is the hull of two: the bootstrap-t (Efron and Tibshirani 1993, An Introduction to the Bootstrap,
12.5), which follows skewed values, and Student's t, which does not break down where values are few, heavy in
the tails or mostly alike. Its p-value, of the hypothesis that the true mean is 0, is the larger of theirs; so
it is below 0.05 just where the interval leaves 0 out.

Of 30 simulated values, 95% intervals of the hull cover the true mean in 93.6% (lognormal values) to 98.8% of
all sets (values that are mostly 0, as where two strategies mostly generate the same text). Of the methods
that it was compared with, percentile bootstrap, BCa, bootstrap-t and Hall's transformation cover as few as
76 to 88%, Student's t 88.7% of the lognormal sets. Of 8 values the hull covers 90.7% (lognormal): intervals
over few prompts are approximate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95

RESAMPLES = 10_000
"""Of up to LARGE values; of more, where the resampled mean is smooth, FEWER."""

FEWER = 2_000
LARGE = 1_000

RESOLVED = 20
"""Resamples past a value from which its tail probability is counted; further out it is extrapolated."""

_CHUNK = 2_000_000  # numbers in a block of resamples: 16 MB


@dataclass(frozen=True)
class Means:
    """Means of m sets of values; (m,) arrays.

    Attributes:
        mean: NaN for a set without values.
        low, high: 95% confidence interval; NaN where there are too few values.
        p: two-sided, of the hypothesis that the true mean is 0; NaN where there is no interval.
        count: number of values.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    count: np.ndarray


def mean_intervals(values: np.ndarray, resamples: int | None = None) -> Means:
    """Return the mean of each row's finite values, with its interval.

    The resamples depend only on the number of values, so that equal values have equal intervals, and all rows
    with the same number of values are resampled at once. One value has no interval. Values that are all equal
    have an interval of width 0 and the p-value of the sign-flip test, 2^(1 - n): that all of them have the
    same sign. Where some values are 0, as of prompts on which both strategies generated the same text, no
    p-value is below 2^(1 - k) of the k others, for the same reason; and where that keeps it from 0.05, the
    interval reaches 0.

    Args:
        values: (m, n); NaN and infinities are missing values.
        resamples: number of resamples; chosen by the number of values when None.
    """
    values = np.asarray(values, dtype=np.float64)
    rows, finite = len(values), np.isfinite(values)
    count = finite.sum(axis=1)
    mean, low, high, p = np.full((4, rows), np.nan)
    for n in np.unique(count[count > 0]):
        where = np.flatnonzero(count == n)
        some = values[where] if n == values.shape[1] else values[where][finite[where]].reshape(len(where), n)
        mean[where] = some.mean(axis=1)
        if n > 1:
            low[where], high[where], p[where] = _intervals(some, resamples)
    return Means(mean, low, high, p, count)


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return (m, n) rows one below the other, short ones filled up with NaN."""
    table = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def _intervals(values: np.ndarray, resamples: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (low, high, p) of the means of complete rows (m, n), n at least 2."""
    n = values.shape[1]
    mean, deviation = values.mean(axis=1), values.std(axis=1)
    low, high, p = mean.copy(), mean.copy(), np.ones(len(mean))
    equal = deviation <= 1e-12 * np.abs(values).max(axis=1)
    differ = np.flatnonzero(~equal)
    many = resamples or (RESAMPLES if n <= LARGE else FEWER)
    size = max(1, _CHUNK // many)
    for start in range(0, len(differ), size):
        where = differ[start : start + size]
        z = (values[where] - mean[where, None]) / deviation[where, None]
        t = _studentised(z, _weights(n, many))
        below, above, p[where] = _hull(t, mean[where] / deviation[where], n)
        low[where] = mean[where] - deviation[where] * above
        high[where] = mean[where] - deviation[where] * below
    nonzero = (values != 0).sum(axis=1)
    sign_flip = np.where(equal | (nonzero < n), 2.0 ** (1 - np.maximum(nonzero, 1)), 0.0)
    p = np.maximum(p * ~(equal & (nonzero > 0)), sign_flip)
    too_few = sign_flip >= 1 - CONFIDENCE
    return np.where(too_few, np.minimum(low, 0), low), np.where(too_few, np.maximum(high, 0), high), p


def _weights(n: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield blocks of (B, n): how often each of n values is in a resample, divided by n.

    Resamples of a single value are left out: they have no standard deviation.
    """
    rng = np.random.default_rng(n)
    size = max(1, _CHUNK // n)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        picks = rng.integers(n, size=(rows, n))
        picks += np.arange(rows)[:, None] * n
        counts = np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n)
        yield counts[(counts > 0).sum(axis=1) > 1] / n


def _studentised(z: np.ndarray, weights: Iterable[np.ndarray]) -> np.ndarray:
    """Return (m, B) mean over standard deviation of each resample of standardised values (m, n)."""
    blocks = []
    for block in weights:
        means = z @ block.T
        spread = (z * z) @ block.T
        spread -= means * means
        spread[spread <= 1e-12] = np.nan
        means /= np.sqrt(spread, out=spread)
        blocks.append(means)
    t = np.concatenate(blocks, axis=1)
    # A resample of values that are all equal has no t; others replace it.
    flat = np.isnan(t)
    for row in np.flatnonzero(flat.any(axis=1)):
        t[row, flat[row]] = np.resize(t[row, ~flat[row]], int(flat[row].sum()))
    return t


def _hull(t: np.ndarray, observed: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return quantiles of t that bound the interval, and the p-value of the observed ones.

    `t` (m, B) and `observed` (m,), the t of the values themselves were their true mean 0, are over the
    standard deviation of n, not n - 1, values.
    """
    from scipy.special import stdtr, stdtrit

    scale = np.sqrt(n - 1)
    size = t.shape[1]
    tail = (1 - CONFIDENCE) / 2
    index = max(0, int(np.floor(tail * (size + 1))) - 1)  # so that p is below 0.05 past it, and only there
    far = min(RESOLVED, size)
    ordered = np.partition(t, sorted({far - 1, index, size - 1 - index, size - far}), axis=1)
    quantile = -stdtrit(n - 1, tail) / scale
    below = np.minimum(ordered[:, index], -quantile)
    above = np.maximum(ordered[:, size - 1 - index], quantile)
    # P(T >= observed) and P(T <= observed), each with the far value of its own tail.
    upper = _tail((t >= observed[:, None]).sum(axis=1), size, observed, ordered[:, size - far], n)
    lower = _tail((t <= observed[:, None]).sum(axis=1), size, -observed, -ordered[:, far - 1], n)
    student = 2 * stdtr(n - 1, -np.abs(observed) * scale)
    return below, above, np.minimum(1.0, np.maximum(2 * np.minimum(upper, lower), student))


def _tail(exceeding: np.ndarray, size: int, observed: np.ndarray, far: np.ndarray, n: int) -> np.ndarray:
    """Return the share of resamples past the observed value, counted where it is resolved.

    Further out Student's distribution, scaled so that it meets the count at `far`, extrapolates the tail: a
    correction for hundreds of comparisons asks for probabilities that no count of resamples has.
    """
    from scipy.special import stdtr, stdtrit

    counted = (exceeding + 1) / (size + 1)
    resolved = (RESOLVED + 1) / (size + 1)
    sound = far > 0
    stretch = -stdtrit(n - 1, resolved) / np.where(sound, far, 1.0)
    beyond = sound & (observed > far)
    return np.where(beyond, stdtr(n - 1, -observed * stretch), counted)
