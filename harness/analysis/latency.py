"""The arithmetic of latency: timestamps to intervals, quantiles and their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, lgamma, log, log1p

from harness.store.records import Repetition


def repetition(
    prompt_id: str,
    repeat: int,
    batch_size: int,
    started: float,
    tokens: Sequence[float],
) -> Repetition:
    """One repetition from the times at which its tokens came out.

    Args:
        prompt_id: the prompt, or the batch's prompts joined by a comma.
        repeat: index of the repetition.
        batch_size: prompts decoded together.
        started: when the text went in; seconds on any clock.
        tokens: when each token came out, on the same clock, in order.
    """
    if not tokens:
        raise ValueError("no token came out")
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
    """One repetition of a strategy that streams nothing (beams): only the whole is known."""
    return Repetition(
        prompt_id=prompt_id,
        repeat=repeat,
        batch_size=batch_size,
        ttft_ms=None,
        decode_ms=(ended - started) * 1e3,
        output_tokens=output_tokens,
        itl_ms=(),
    )


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile with linear interpolation between order statistics (Hyndman and Fan's type 7)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True)
class Interval:
    """A confidence interval and the coverage it really has, at most what the data allow."""

    low: float
    high: float
    coverage: float


def quantile_interval(values: Sequence[float], q: float, confidence: float = 0.95) -> Interval:
    """A distribution-free interval for the q-quantile from order statistics.

    The number of values below the true quantile is Binomial(n, q), so [x_(i), x_(j)] covers it with
    probability P(i <= B < j) (Conover, Practical Nonparametric Statistics, 3.2). With few values the
    widest interval covers less than `confidence`: `coverage` says how much.
    """
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        raise ValueError("no values")
    mass = [_binomial(k, n, q) for k in range(n + 1)]
    # Start at the two order statistics around the quantile; grow towards the likelier side.
    low = min(max(int(q * n), 1), max(n - 1, 1))
    high = min(low + 1, n)
    covered = sum(mass[low:high])
    while covered < confidence and (low > 1 or high < n):
        left = mass[low - 1] if low > 1 else -1.0
        right = mass[high] if high < n else -1.0
        if left > right:
            low -= 1
            covered += left
        else:
            high += 1
            covered += right
    return Interval(ordered[low - 1], ordered[high - 1], covered)


def _binomial(k: int, n: int, q: float) -> float:
    """P(B = k) for B ~ Binomial(n, q), 0 < q < 1."""
    return exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(q) + (n - k) * log1p(-q))


def latency_metrics(
    repetitions: Sequence[Repetition],
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The `latency/` and `throughput/` metrics of a point's repetitions, and intervals of some.

    Times between tokens are pooled over all repetitions. Throughput is the median over repetitions of
    tokens over seconds; a decode throughput counts the tokens after the first over the decode time.

    Returns:
        (metrics, intervals): intervals are distribution-free and cover at least 90%; where there is
        too little data for that there is none.
    """
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}

    def tell(name: str, values: Sequence[float], *quantiles: int) -> None:
        for percent in quantiles:
            metric = f"latency/{name}_p{percent}_ms"
            metrics[metric] = quantile(values, percent / 100)
            interval = quantile_interval(values, percent / 100)
            # Too few values cannot bound a quantile: then there is no interval to tell.
            if interval.coverage >= 0.9:
                intervals[metric] = (interval.low, interval.high)

    if not repetitions:
        return metrics, intervals
    ttft = [r.ttft_ms for r in repetitions if r.ttft_ms is not None]
    itl = [gap for r in repetitions for gap in r.itl_ms]
    totals = [(r.ttft_ms or 0.0) + r.decode_ms for r in repetitions]
    if ttft:
        tell("ttft", ttft, 50, 95)
    if itl:
        tell("itl", itl, 50, 95)
        metrics["throughput/decode_tokens_per_s"] = quantile(
            [r.batch_size * len(r.itl_ms) / r.decode_ms * 1e3 for r in repetitions if r.itl_ms], 0.5
        )
    tell("total", totals, 50, 95)
    rates = [
        r.batch_size * r.output_tokens / total * 1e3 for r, total in zip(repetitions, totals, strict=True)
    ]
    metrics["throughput/tokens_per_s"] = quantile(rates, 0.5)
    return metrics, intervals
