"""The records of precision: costs, front, and whether strategies keep their ranking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import write_point

from harness.analysis.drift_costs import precision_report, rank_correlations
from harness.analysis.point_results import PointResult
from harness.store.sweeps import SweepPoint

QUANTIZATIONS = {
    # KL, weights, time between tokens; fp4 is worse than nf4 in all
    "fp32": (None, 100.0, 5.0),
    "bf16": (0.001, 50.0, 9.0),
    "nf4": (0.01, 20.0, 6.0),
    "fp4": (0.02, 20.0, 7.0),
}
STRATEGIES = ("greedy", "top_p", "min_p", "typical")


def points(outputs: Path) -> list[PointResult]:
    found = []
    for q, (kl, weights, itl) in QUANTIZATIONS.items():
        for place, decoding in enumerate(STRATEGIES):
            metrics = {
                "memory/weights_mb": weights,
                "latency/itl_p50_ms": itl,
                # nf4 turns the ranking by diversity around
                "text/distinct_2": float(-place if q == "nf4" else place),
                "text/flat": 1.0,
            }
            if kl is not None:
                metrics |= {"drift/kl_mean": kl * (1 + place), "drift/kl_max": kl * (10 + place)}
            stored = write_point(outputs, f"{q}{decoding}", {"a": "It was"}, tokens=3)
            if kl is not None:
                stored.write_json("parts.json", {"drift": {"reference": f"fp32{decoding}"}})
            label = f"m/{q}/{decoding}"
            point = SweepPoint(label, stored.point_id, "m", q, "tales", decoding, status="done")
            found.append(PointResult(point, stored, metrics))
    return found


def test_a_row_a_quantization(tmp_path: Path) -> None:
    report = precision_report(points(tmp_path))
    costs = {cost.quantization: cost for cost in report.costs}
    assert list(costs) == list(QUANTIZATIONS)
    assert costs["fp32"].reference is None
    assert costs["nf4"].reference == "fp32"
    assert costs["nf4"].metrics["drift/kl_mean"] == 0.01 * (1 + 2 + 3 + 4) / 4
    assert costs["nf4"].metrics["drift/kl_max"] == 0.13
    assert report.front == ("drift/kl_mean", "memory/weights_mb", "latency/itl_p50_ms")
    assert {name: cost.on_front for name, cost in costs.items()} == {
        "fp32": True, "bf16": True, "nf4": True, "fp4": False,
    }  # fmt: skip
    json.dumps(report.as_json(), allow_nan=False)


def test_the_front_of_measured_costs(tmp_path: Path) -> None:
    """Of speed, memory and energy the model's own costs count, where every quantization has them."""
    own = {
        # tokens per second, energy per token; bf16 is slower than fp32, and nf4 takes less energy
        "fp32": (50.0, 3.0), "bf16": (30.0, 3.0), "nf4": (40.0, 1.0), "fp4": (60.0, 2.0),
    }  # fmt: skip
    found = [
        replace(
            p,
            metrics=p.metrics
            | {"cost/decode_tokens_per_s": own[p.point.quantization][0],
               "cost/energy_j_per_token": own[p.point.quantization][1]},
        )
        for p in points(tmp_path)
    ]  # fmt: skip
    report = precision_report(found)
    speed, energy = "cost/decode_tokens_per_s", "cost/energy_j_per_token"
    assert report.front == ("drift/kl_mean", "memory/weights_mb", speed, energy)
    # fp4 drifts most and is the fastest; bf16 drifts less than the others of less memory.
    assert [cost.on_front for cost in report.costs] == [True, True, True, True]
    slow = [
        replace(p, metrics=p.metrics | {speed: 35.0}) if p.point.quantization == "fp4" else p for p in found
    ]
    assert [cost.on_front for cost in precision_report(slow).costs] == [True, True, True, False]
    few = [
        replace(p, metrics={k: v for k, v in p.metrics.items() if k != speed})
        if p.point.quantization == "nf4"
        else p
        for p in found
    ]
    assert precision_report(few).front == (
        "drift/kl_mean", "memory/weights_mb", "latency/itl_p50_ms", energy,
    )  # fmt: skip
    assert not [a for a in report.agreements if a.metric.startswith("cost/")]


def test_whether_rankings_stay(tmp_path: Path) -> None:
    report = precision_report(points(tmp_path))
    found = {(a.quantization, a.metric): (a.spearman, a.kendall, a.strategies) for a in report.agreements}
    assert found["nf4", "text/distinct_2"] == (-1.0, -1.0, 4)
    assert found["bf16", "text/distinct_2"] == (1.0, 1.0, 4)
    assert ("bf16", "text/flat") not in found, "what is the same for all ranks nothing"
    assert report.agreements[0].kendall == -1.0


def test_without_drift_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert not precision_report([p for p in points(tmp_path) if p.point.quantization == "fp32"])
    assert not precision_report([])


def test_equal_quantizations_are_both_on_the_front(tmp_path: Path) -> None:
    """Dominating is being nowhere worse and somewhere better, than all that have the same reference model."""
    metrics = {"drift/kl_mean": 0.02, "memory/weights_mb": 20.0, "latency/itl_p50_ms": 7.0}
    found = points(tmp_path)
    twins = [
        replace(p, metrics=dict(p.metrics) | metrics) for p in found if p.point.quantization in ("nf4", "fp4")
    ]
    rest = [p for p in found if p.point.quantization not in ("nf4", "fp4")]
    other = replace(
        twins[-1],
        point=replace(twins[-1].point, model="n", label="n"),
        metrics={**metrics, "drift/kl_mean": 9.0},
    )
    report = precision_report([*rest, *twins, other])
    fronts = {(cost.model, cost.quantization): cost.on_front for cost in report.costs}
    assert fronts["m", "nf4"] is fronts["m", "fp4"] is True
    assert fronts["n", "fp4"] is False, "its reference is of model m"
    (cost,) = (cost for cost in report.costs if cost.model == "n")
    assert (cost.reference, cost.reference_model) == ("fp32", "m")


def test_rank_correlations() -> None:
    """Ties share a rank; constant values have no ranking, and no warning."""
    assert rank_correlations([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx((1, 1))
    rho, tau = rank_correlations([1, 2, 2, 3], [1, 2, 3, 3]) or (0.0, 0.0)
    # Pearson's correlation of ranks 1, 2.5, 2.5, 4 and 1, 2, 3.5, 3.5; 4 concordant pairs, one tie in each.
    assert rho == pytest.approx(3.75 / 4.5)
    assert tau == pytest.approx(4 / 5)
    assert rank_correlations([1, 1, 1], [1, 2, 3]) is None
    assert rank_correlations([1, 2, 3], [1, 1, 1]) is None
