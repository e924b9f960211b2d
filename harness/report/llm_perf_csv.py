"""What models cost, as CSV with the columns of the LLM-Perf leaderboard: `harness report --llm-perf`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.model_cost import cost_metrics
from harness.analysis.point_results import PointResult
from harness.errors import ConfigError
from harness.store.stored_point import StoredPoint

COLUMNS = (
    "Experiment", "Model", "Prefill (s)", "Per Token (s)", "Decode (tokens/s)", "Energy (tokens/kWh)",
    "Memory (MB)", "Backend", "Precision", "Quantization", "Attention", "Kernel", "Architecture",
    "End-to-End (s)", "Open LLM Score (%)", "Params (B)",
)  # fmt: skip
"""Of the leaderboard; kernels and scores are not known here."""


def llm_perf_rows(points: Sequence[PointResult], name: str) -> list[list[Any]]:
    """Return a row of COLUMNS for each model that was measured, in the points' order.

    Raises:
        ConfigError: none was; `name` is the sweep's.
    """
    rows: dict[str, list[Any]] = {}
    for p in points:
        if p.stored and not p.selected_from and "cost" in p.stored.parts():
            cost = p.stored.cost()
            rows.setdefault(cost["address"], _row(p, p.stored, cost))
    if not rows:
        message = "no run has the cost of its model; run the sweep again with timing=llm_perf"
        raise ConfigError.of(f"report {name} --llm-perf", message)
    return list(rows.values())


def _row(p: PointResult, stored: StoredPoint, cost: Mapping[str, Any]) -> list[Any]:
    model = stored.environment().get("model", {})
    config = stored.config().get("requested", {})
    cache = config.get("cache", {}).get("name", "default")
    latency, metrics = cost["latency"], cost_metrics(cost)
    found = {
        "Experiment": "/".join(
            [p.point.model, p.point.quantization, *([cache] if cache != "default" else [])]
        ),
        "Model": model.get("model_id"),
        "Prefill (s)": latency["prefill"]["p50"],
        "Per Token (s)": latency["per_token"]["p50"],
        "Decode (tokens/s)": metrics["cost/decode_tokens_per_s"],
        "Energy (tokens/kWh)": metrics.get("cost/tokens_per_kwh"),
        "Memory (MB)": metrics.get("cost/max_allocated_mb"),
        "Backend": "pytorch",
        "Precision": model.get("dtype"),
        "Quantization": model.get("stored_quantization") or p.point.quantization,
        "Attention": model.get("attention"),
        "Architecture": model.get("architecture"),
        "End-to-End (s)": latency["prefill"]["p50"] + latency["decode"]["p50"],
        "Params (B)": model["parameters"] / 1e9 if "parameters" in model else None,
    }
    return [found.get(column) for column in COLUMNS]
