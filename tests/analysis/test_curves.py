"""What the charts draw of a point: measured latencies, thinned where there are many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from valued_points import point_results, rows, store, sweep_of, sweep_point, timed

from harness.analysis.curves import MEASUREMENTS, measured_latencies


def test_a_few_measurements_are_drawn_as_they_are(outputs: Path) -> None:
    stored = store(outputs, "few", rows(), {}, timed("p", 9.0, 5.0, 7.0, 6.0))
    ttft = measured_latencies(stored)["ttft"]
    assert ttft.times == [5, 6, 7, 9]
    assert ttft.measured == 4
    assert ttft.quartiles == [5.75, 6.5, 7.5]
    assert ttft.tails is None
    assert measured_latencies(stored)["itl"].times == [2.0] * 8


def test_many_measurements_are_thinned_evenly_by_rank(outputs: Path) -> None:
    values = np.random.default_rng(0).permutation(1000.0 + np.arange(1000))
    ttft = measured_latencies(store(outputs, "many", rows(), {}, timed("p", *values)))["ttft"]
    assert (len(ttft.times), ttft.measured) == (MEASUREMENTS, 1000)
    assert (ttft.times[0], ttft.times[-1]) == (1000, 1999)
    assert set(np.diff(ttft.times)) == {5, 6}
    assert ttft.tails == pytest.approx(np.percentile(values, [5, 95]))


def test_a_stored_95th_percentile_of_few_measurements_is_not_read(outputs: Path) -> None:
    """As stored by versions that computed it of any number."""
    p95 = {"latency/ttft_p95_ms": 9.0, "latency/itl_p95_ms": 2.0, "latency/ttft_p50_ms": 6.5}
    for name, count in (("few", 4), ("more", 10), ("many", 20)):
        store(outputs, f"m-set-{name}", rows(), p95, timed("p", *range(1, count + 1)))
    few, more, many = point_results(sweep_of(outputs, *map(sweep_point, ("few", "more", "many"))))
    assert few.metrics.keys() == {"latency/ttft_p50_ms"}
    assert more.metrics.keys() == {"latency/ttft_p50_ms", "latency/itl_p95_ms"}
    assert many.metrics.keys() == p95.keys()
