"""What a model costs, on numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.model_cost import (
    EnergyWindow,
    MeasuredEnergy,
    cost_metrics,
    energy_json,
    energy_per_token,
    latency_json,
    statistics,
)


def test_statistics() -> None:
    found = statistics([1.0, 2.0, 3.0, 6.0])
    assert found == pytest.approx(
        # Linear between order statistics: at 0.9 * 3 = 2.7 of 0 to 3, and so on.
        {"mean": 3.0, "p50": 2.5, "p90": 5.1, "p95": 5.55, "p99": 5.91, "stdev": (14 / 4) ** 0.5}
    )
    assert statistics([]) == {}


def cost(**more: Any) -> dict[str, Any]:
    latency = latency_json([0.1, 0.2, 0.6], [1.0, 2.0, 3.0], [[0.1, 0.3], [0.2], [0.4]])
    return {"shape": {"prompt_tokens": 8, "new_tokens": 5, "batch_size": 2}, "latency": latency, **more}


def test_throughput_is_the_volume_over_the_mean() -> None:
    found = cost()
    assert found["latency"]["generate"]["p50"] == pytest.approx(2.2)
    assert found["latency"]["per_token"]["p50"] == pytest.approx(0.25)
    assert cost_metrics(found) == pytest.approx(
        {"cost/prefill_p50_ms": 200.0, "cost/decode_tokens_per_s": 2 * 4 / 2.0}
    )


def test_memory_that_is_not_known_is_left_out() -> None:
    found = cost_metrics(cost(memory={"allocated": None, "reserved": None, "used": 531.5}))
    assert found["cost/max_used_mb"] == 531.5
    assert "cost/max_allocated_mb" not in found


def test_energy_of_decoding_is_that_of_runs_less_that_of_prefills() -> None:
    energy = MeasuredEnergy(
        "a counter", 40.0, 0.1, EnergyWindow(50, 10.0, 500.0), EnergyWindow(10, 11.0, 900.0)
    )
    found = cost_metrics(cost(energy=energy_json(energy)))
    assert found["cost/energy_j_prefill"] == 10.0
    assert found["cost/energy_j_per_token"] == (90.0 - 10.0) / 8
    assert found["cost/tokens_per_kwh"] == pytest.approx(360_000.0)


def test_without_energy_there_is_the_reason() -> None:
    assert energy_json("no counter") == {"source": None, "reason": "no counter"}
    assert not [key for key in cost_metrics(cost(energy=energy_json("no counter"))) if "energy" in key]
    coarse = MeasuredEnergy("c", 40.0, 0.1, EnergyWindow(10, 10.0, 500.0), EnergyWindow(10, 10.0, 500.0))
    found = cost_metrics(cost(energy=energy_json(coarse)))
    assert found["cost/energy_j_prefill"] == 50.0
    assert "cost/energy_j_per_token" not in found, "no energy less than none"


def test_energy_of_a_decoding() -> None:
    assert energy_per_token({"joules": 300.0, "tokens": 200}) == {"energy/j_per_token": 1.5}
    assert energy_per_token({"tokens": 200}) == {}
    assert energy_per_token({"joules": 300.0, "tokens": None}) == {}
