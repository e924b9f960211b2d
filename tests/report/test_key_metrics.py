"""The key metrics: what is measured of a whole batch is none of a run's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import make_sweep

from harness.analysis.point_results import point_results
from harness.report.key_metrics import OF_A_BATCH, key_metrics


@pytest.mark.parametrize("key", OF_A_BATCH)
def test_what_runs_share_is_no_key_metric_even_as_the_goal(outputs: Path, key: str) -> None:
    points = point_results(make_sweep(outputs, tokens=3))

    def keys(values: list[float]) -> list[str]:
        some = [replace(p, metrics={**p.metrics, key: v}) for p, v in zip(points, values, strict=False)]
        return [metric.key for metric in key_metrics(some, key)]

    assert key not in keys([1610.25, 1610.25, 900.0])
    assert keys([1610.25, 1200.5, 900.0])[0] == key
