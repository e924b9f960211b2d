"""The arithmetic of latency on made-up timestamps, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.analysis.latency import latency_metrics, quantile_interval, repetition, whole_run


def test_a_repetition_by_hand() -> None:
    timed = repetition("p", 2, 1, started=10.0, tokens=[10.5, 10.6, 10.8, 11.2])
    assert timed.ttft_ms == pytest.approx(500)
    assert timed.decode_ms == pytest.approx(700)
    assert timed.itl_ms == pytest.approx((100, 200, 400))
    assert timed.output_tokens == 4
    assert (timed.prompt_id, timed.repeat, timed.batch_size) == ("p", 2, 1)


def test_one_token_has_no_time_between_tokens() -> None:
    timed = repetition("p", 0, 1, started=0.0, tokens=[0.25])
    assert timed.itl_ms == ()
    assert timed.decode_ms == 0
    metrics, _ = latency_metrics([timed])
    assert metrics["latency/ttft_p50_ms"] == 250
    assert metrics["throughput/tokens_per_s"] == 4
    assert "latency/itl_p50_ms" not in metrics
    with pytest.raises(ValueError, match="no tokens"):
        repetition("p", 0, 1, 0.0, [])


def test_metrics_by_hand() -> None:
    timed = [
        repetition("a", 0, 2, started=0.0, tokens=[0.1, 0.2, 0.3]),
        repetition("a", 1, 2, started=5.0, tokens=[5.3, 5.5, 5.7]),
        repetition("b", 0, 2, started=9.0, tokens=[9.2, 9.5, 9.8]),
    ]
    metrics, intervals = latency_metrics(timed)
    assert metrics["latency/ttft_p50_ms"] == pytest.approx(200)
    assert metrics["latency/itl_p50_ms"] == pytest.approx(200)
    assert "latency/itl_p95_ms" not in metrics, "a 95th percentile of six numbers is none"
    assert metrics["latency/total_p50_ms"] == pytest.approx(700)
    # Two rows, two tokens after the first: 4 tokens in 200, 400 and 600 ms.
    assert metrics["throughput/decode_tokens_per_s"] == pytest.approx(10)
    # Two rows of three tokens in 300, 700 and 800 ms.
    assert metrics["throughput/tokens_per_s"] == pytest.approx(6 / 0.7)
    assert "latency/ttft_p50_ms" not in intervals, "three values cover the median with 75% only"
    assert intervals["latency/itl_p50_ms"] == pytest.approx((100, 300))


@pytest.mark.parametrize(("repetitions", "known"), [(19, False), (20, True)])
def test_a_95th_percentile_needs_twenty_measurements(repetitions: int, known: bool) -> None:
    timed = [repetition("a", i, 1, started=0.0, tokens=[0.1 + i / 100, 0.5]) for i in range(repetitions)]
    metrics, intervals = latency_metrics(timed)
    for name in ("ttft", "itl", "total"):
        assert f"latency/{name}_p50_ms" in metrics
        assert (f"latency/{name}_p95_ms" in metrics) == known
        assert known or f"latency/{name}_p95_ms" not in intervals
    if known:
        exact = np.percentile([100 + 10 * i for i in range(repetitions)], 95)
        assert metrics["latency/ttft_p95_ms"] == pytest.approx(exact)


def test_beams_have_a_total_time_only() -> None:
    timed = whole_run("p", 0, 1, started=1.0, ended=3.0, output_tokens=10)
    assert timed.ttft_ms is None
    metrics, _ = latency_metrics([timed])
    assert metrics["latency/total_p50_ms"] == pytest.approx(2000)
    assert metrics["throughput/tokens_per_s"] == pytest.approx(5)
    assert not [name for name in metrics if "ttft" in name or "itl" in name or "decode" in name]


def test_nothing_timed_has_no_metrics() -> None:
    assert latency_metrics([]) == ({}, {})


def test_no_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile_interval([], 0.5)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 30, 2500])
@pytest.mark.parametrize("q", [0.5, 0.95])
def test_the_intervals_coverage_is_the_binomials(n: int, q: float) -> None:
    values = list(range(1, n + 1))
    low, high, coverage = quantile_interval(values, q)
    # [x_(low), x_(high)] covers when low <= number below <= high - 1.
    exact = stats.binom.cdf(high - 1, n, q) - stats.binom.cdf(low - 1, n, q)
    assert coverage == pytest.approx(exact, abs=1e-9)
    widest = 1 - q**n - (1 - q) ** n if n > 1 else 0
    assert coverage >= min(0.95, widest - 1e-9)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    draws = rng.exponential(size=(4000, 25))
    hits = 0
    for row in draws:
        low, high, coverage = quantile_interval(row.tolist(), 0.5)
        hits += low <= np.log(2) <= high
    assert hits / len(draws) == pytest.approx(coverage, abs=0.015)
