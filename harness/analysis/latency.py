"""The arithmetic of latency: timestamps to intervals, quantiles and their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from harness.store.records import Repetition

LEAST_FOR_TAIL = 20
"""Measurements that a 95th percentile needs: of fewer, none is expected to be beyond it."""


def tail_is_known(count: int) -> bool:
    """Return whether so many measurements have a 95th percentile worth showing."""
    return count >= LEAST_FOR_TAIL


def repetition(
    prompt_id: str, repeat: int, batch_size: int, started: float, tokens: Sequence[float]
) -> Repetition:
    """Return a repetition from the times of its tokens.

    Args:
        prompt_id: the prompt, or the batch's prompts joined by a comma.
        repeat: index of the repetition.
        batch_size: prompts decoded together.
        started, tokens: when the request began, and when each token was generated; seconds on any clock.
    """
    if not tokens:
        raise ValueError("no tokens")
    return Repetition(
        prompt_id=prompt_id,
        repeat=repeat,
        batch_size=batch_size,
        ttft_ms=(tokens[0] - started) * 1e3,
        decode_ms=(tokens[-1] - tokens[0]) * 1e3,
        output_tokens=len(tokens),
        itl_ms=tuple((after - before) * 1e3 for before, after in pairwise(tokens)),
    )


def whole_run(
    prompt_id: str, repeat: int, batch_size: int, started: float, ended: float, output_tokens: int
) -> Repetition:
    """Return a repetition of a strategy that does not stream (beams): only its whole time is known."""
    return Repetition(
        prompt_id=prompt_id,
        repeat=repeat,
        batch_size=batch_size,
        ttft_ms=None,
        decode_ms=(ended - started) * 1e3,
        output_tokens=output_tokens,
        itl_ms=(),
    )


def quantile_interval(
    values: Sequence[float], q: float, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return a distribution-free interval for the q-quantile from order statistics: low, high, coverage.

    The number of values below the true quantile is Binomial(n, q), so [x_(i), x_(j)] covers it with
    probability P(i <= B < j) (Conover, Practical Nonparametric Statistics, 3.2). With few values the
    widest interval covers less than `confidence`.
    """
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        raise ValueError("no values")
    from scipy.special import bdtr  # scipy.stats.binom takes a second to import

    mass = np.diff(bdtr(np.arange(n + 1), n, q), prepend=0.0).tolist()
    # Start at the two order statistics around the quantile; grow towards the likelier side, upwards on a tie.
    low = min(max(int(q * n), 1), max(n - 1, 1))
    high = min(low + 1, n)
    covered = sum(mass[low:high])
    while covered < confidence and (low > 1 or high < n):
        left = mass[low - 1] if low > 1 else -1.0
        right = mass[high] if high < n else -1.0
        if left > right * (1 + 1e-9):
            low -= 1
            covered += left
        else:
            high += 1
            covered += right
    return ordered[low - 1], ordered[high - 1], covered


def latency_metrics(
    repetitions: Sequence[Repetition],
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return the `latency/` and `throughput/` metrics of a point's repetitions, and intervals of some.

    Inter-token latencies are pooled over all repetitions. Throughput is the median over repetitions of tokens
    per second; decode throughput is that of the tokens after the first, over the decode time. Intervals are
    distribution-free and cover at least 90%; there is none where the values are too few for that, and no 95th
    percentile of fewer than LEAST_FOR_TAIL.
    """
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    times = {
        "ttft": [r.ttft_ms for r in repetitions if r.ttft_ms is not None],
        "itl": [gap for r in repetitions for gap in r.itl_ms],
        "total": [(r.ttft_ms or 0.0) + r.decode_ms for r in repetitions],
    }
    for name, values in times.items():
        for percent in (50, 95) if tail_is_known(len(values)) else (50,) if values else ():
            metric = f"latency/{name}_p{percent}_ms"
            metrics[metric] = float(np.quantile(values, percent / 100))
            low, high, coverage = quantile_interval(values, percent / 100)
            if coverage >= 0.9:
                intervals[metric] = (low, high)
    rates = {
        "decode_tokens_per_s": [
            r.batch_size * len(r.itl_ms) / r.decode_ms * 1e3 for r in repetitions if r.itl_ms
        ],
        "tokens_per_s": [
            r.batch_size * r.output_tokens / total * 1e3
            for r, total in zip(repetitions, times["total"], strict=True)
            if r.output_tokens is not None
        ],
    }
    metrics |= {f"throughput/{name}": float(np.median(values)) for name, values in rates.items() if values}
    return metrics, intervals
