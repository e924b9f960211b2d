"""Many paired differences of one metric at once: simultaneous confidence intervals and p-values over prompts.

The prompts are resampled for all comparisons together, so that what they share (the prompts, the noise, the
baseline) is not corrected for twice: the largest of all t statistics decides (max-t: Westfall and Young 1993,
Resampling-Based Multiple Testing). What is tested is that a mean difference is 0, whatever its distribution.
Two reference distributions are computed, and the further quantile of the two counts:

- the joint bootstrap of studentised means, each tail by itself, which follows skewed differences;
- sign flips of whole prompts, which are exact where two strategies are exchangeable, of however few prompts.

Simulated (7 comparisons that share their baseline; tests/benchmarks/significance.py): the bootstrap alone
finds a difference too often where values are mostly 0 (8% where 5% are claimed), the sign flips alone where
differences are skewed (33%). Both together err in 2.4 to 4.6% of 2,000 sweeps of 30 prompts whose means are
equal. Of fewer than 20 prompts the bootstrap is bounded more (LEAST_ERROR), or it would find next to nothing:
8 prompts err in 0 to 4% where strategies are exchangeable, in 10% of skewed differences (lognormal, sigma
0.5) and in 39% of very skewed ones (sigma 1); 16 prompts in 5 and 21%, 20 prompts in 3 and 6%.

A difference of two shares (of samples that end in a loop, that are exactly right) has the two pseudo-prompts
of Bonett and Price (2012, Journal of Educational and Behavioral Statistics 37:479), one for and one against,
and sign flips alone: where its mean is 0, it is symmetric.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.analysis.statistics.sample_size import critical_t

LEVEL = 0.05
"""Of the family: how often any interval misses its true mean, or any true 0 is called different."""

WORK = 200_000_000
"""Products of a reference distribution, which bound the number of resamples."""

MOST_RESAMPLES, LEAST_RESAMPLES = 4_000, 2_000

EXHAUSTIVE = 13
"""Up to this many prompts all sign flips are enumerated."""

LEAST_ERROR = {0: 0.5, 20: 0.3}
"""Of a resample's standard error, as a share of the data's, by the least number of prompts: prompts that
happen to be alike do not prove a small error, and would make intervals of 10 prompts many times too wide."""

_CHUNK = 2_000_000  # numbers in a block: 16 MB


@dataclass(frozen=True)
class Simultaneous:
    """Means of K differences over prompts, with what is known of them together; (K,) arrays.

    Attributes:
        mean: NaN without values.
        deviation: standard deviation over prompts; NaN with fewer than two.
        low, high: 95% simultaneous interval; NaN where there is none: fewer than two prompts, or all
            differences 0.
        p: simultaneous and two-sided, of a mean of 0; below 0.05 just where the interval leaves 0 out. NaN
            with fewer than two prompts.
        count: number of prompts.
    """

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    count: np.ndarray


def simultaneous_intervals(values: np.ndarray, shares: bool = False) -> Simultaneous:
    """Return means of differences with intervals that hold together.

    Args:
        values: (K, n), a row per comparison and a column per prompt; NaN where a prompt has no difference.
        shares: whether each value is a difference of two shares, between -1 and 1.
    """
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    used = known.any(axis=0)
    values, known = np.where(known, values, 0.0)[:, used], known[:, used]
    count = known.sum(axis=1)
    mean, deviation, low, high, p = np.full((5, len(values)), np.nan)
    np.divide(values.sum(axis=1), count, out=mean, where=count > 0)
    enough = count > 1
    spread = np.where(known, values - np.nan_to_num(mean)[:, None], 0.0)
    deviation[enough] = np.sqrt((spread[enough] ** 2).sum(axis=1) / (count[enough] - 1))
    p[enough] = 1.0
    differ = np.flatnonzero(enough & (values != 0).any(axis=1))
    if len(differ):
        family = _Family(values[differ], known[differ], shares)
        low[differ], high[differ], p[differ] = family.intervals()
        low[differ], high[differ] = (
            np.minimum(low[differ], mean[differ]),
            np.maximum(high[differ], mean[differ]),
        )
    return Simultaneous(mean, deviation, low, high, p, count)


class _Family:
    """Comparisons that are not all 0, and the reference distributions of their largest t.

    `values` (K, n) are 0 where they are not `known`. The t of a row is its mean over its standard error, both
    with the pseudo-prompts where there are any.
    """

    def __init__(self, values: np.ndarray, known: np.ndarray, shares: bool) -> None:
        self.values = values
        self.known = known.astype(np.float64)
        self.pseudo = 2.0 if shares else 0.0
        self.squares = values * values
        self.size = self.known.sum(axis=1) + self.pseudo
        self.mean, self.error = self._moments(values.sum(axis=1), self.squares.sum(axis=1), self.size)
        largest = np.abs(values).max(axis=1)
        self.error[self.error <= 1e-9 * largest] = 0.0
        resamples = int(WORK / max(1, values.size))
        self.resamples = min(MOST_RESAMPLES, max(LEAST_RESAMPLES, resamples))

    def _moments(
        self, sums: np.ndarray, squares: np.ndarray, size: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return means and their standard errors, given sums over prompts without the pseudo-prompts."""
        mean = sums / size
        variance = np.maximum((squares + self.pseudo) / size - mean * mean, 0.0)
        return mean, np.sqrt(variance / np.maximum(size - 1, 1))

    def intervals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (low, high, p)."""
        t = _ratio(self.mean, self.error)
        largest = np.sort(self._flipped())
        p = _exceeding(largest, np.abs(t)) / len(largest)
        above = below = self._critical(largest)
        if not self.pseudo and self.values.shape[1] > 1:
            upper, lower = self._bootstrapped()
            allowed = _passed(LEVEL / 2 * (len(upper) + 1) - 1)
            above = max(above, _quantile(upper, allowed))
            below = max(below, _quantile(lower, allowed))
            tail = np.minimum(_exceeding(upper, t), _exceeding(lower, -t))
            p = np.maximum(p, np.minimum(1.0, 2 * (tail + 1) / (len(upper) + 1)))
        low, high = self.mean - above * self.error, self.mean + below * self.error
        # Values that are all the same have no error: the flips alone say whether that can be chance.
        flat = self.error == 0
        low[flat] = high[flat] = self.mean[flat]
        chance = p >= LEVEL
        low[chance], high[chance] = np.minimum(low[chance], 0.0), np.maximum(high[chance], 0.0)
        return low, high, p

    def _critical(self, largest: np.ndarray) -> float:
        """Return what |t| must exceed by the sign flips; by Student's t where they are too few to decide."""
        exceeding = _passed(LEVEL * len(largest))
        if exceeding > 0:  # the data as they are count as one
            return _quantile(largest, exceeding)
        return critical_t(self.values.shape[1], len(self.values))

    def _flipped(self) -> np.ndarray:
        """Return the largest |t| of each sign flip, the data as they are among them."""
        n = self.values.shape[1]
        blocks = []
        for signs in _sign_flips(n, self.resamples, len(self.values)):
            means, errors = self._moments(signs @ self.values.T, self.squares.sum(axis=1), self.size)
            errors[errors <= 1e-9 * np.abs(means)] = 0.0
            blocks.append(np.abs(_ratio(means, errors)).max(axis=1))
        return np.concatenate(blocks)

    def _bootstrapped(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the largest t, and the largest -t, of each resample, sorted; centred at the means."""
        n = self.values.shape[1]
        rng = np.random.default_rng(n)
        least = LEAST_ERROR[max(prompts for prompts in LEAST_ERROR if prompts <= n)]
        rows = max(1, _CHUNK // max(n, len(self.values)))
        complete = bool(self.known.all())
        upper, lower = [], []
        for start in range(0, self.resamples, rows):
            size = min(rows, self.resamples - start)
            times = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
            drawn = np.full((1, 1), float(n)) if complete else times @ self.known.T
            with np.errstate(divide="ignore", invalid="ignore"):
                means = times @ self.values.T / drawn
                variance = times @ self.squares.T / drawn - means * means
                # A resample of equal values, or of one, has no t.
                variance[~(variance > 1e-9 * self.error**2)] = np.nan
                errors = np.sqrt(variance / np.maximum(drawn - 1, 1))
                t = (means - self.mean) / np.maximum(errors, least * self.error)
            upper.append(np.nan_to_num(t, nan=-np.inf).max(axis=1))
            lower.append(np.nan_to_num(-t, nan=-np.inf).max(axis=1))
        return np.sort(np.concatenate(upper)), np.sort(np.concatenate(lower))


def _sign_flips(n: int, most: int, comparisons: int) -> Iterator[np.ndarray]:
    """Yield blocks of (B, n) signs: all of them where n is small, else random ones; the first is all +1.

    The sign of the last prompt is always +1 where all are enumerated: flipping every sign changes no |t|.
    """
    rows = max(1, _CHUNK // max(n, comparisons))
    if n <= EXHAUSTIVE:
        patterns = np.arange(2 ** (n - 1))
        for start in range(0, len(patterns), rows):
            bits = patterns[start : start + rows, None] >> np.arange(n) & 1
            yield 1.0 - 2.0 * bits
        return
    rng = np.random.default_rng(n)
    yield np.ones((1, n))
    for start in range(1, most, rows):
        yield rng.integers(0, 2, size=(min(rows, most - start), n)) * 2.0 - 1.0


def _ratio(means: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return means over errors; infinite where the error alone is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(means / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _exceeding(ordered: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return how many of the sorted values reach each observed one, within rounding."""
    slack = np.where(np.isfinite(observed), 1e-9 * np.abs(observed), 0.0)
    return len(ordered) - np.searchsorted(ordered, observed - slack)


def _passed(allowed: float) -> int:
    """Return the largest count below `allowed`; -1 where there is none."""
    return int(np.ceil(allowed)) - 1


def _quantile(ordered: np.ndarray, exceeding: int) -> float:
    """Return what a t must exceed so that no more than this many sorted values reach it."""
    return float(ordered[len(ordered) - 1 - exceeding]) if exceeding >= 0 else np.inf
