"""The arithmetic of what a model costs: latencies, throughput, memory and energy of runs, as in cost.json.

The definitions are those of optimum-benchmark: throughput is the volume over the mean latency, decoding is
all tokens but the first, and its energy is that of whole runs less that of prefills.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class EnergyWindow:
    """A span of time in which nothing but the same batch was run.

    Attributes:
        runs: how often the batch was run.
        seconds: the length of the window.
        joules: what was used meanwhile, idle power included.
    """

    runs: int
    seconds: float
    joules: float


@dataclass(frozen=True)
class MeasuredEnergy:
    """What was read from an energy counter.

    Attributes:
        source: the counter.
        idle_watts: what was used before, while nothing was run.
        step_seconds: how often the counter moved then.
        prefill: runs of one new token.
        generate: whole runs.
    """

    source: str
    idle_watts: float
    step_seconds: float
    prefill: EnergyWindow
    generate: EnergyWindow


def statistics(seconds: Sequence[float]) -> dict[str, float]:
    """Return mean, quantiles (linear) and the population's standard deviation; empty without values."""
    if not seconds:
        return {}
    quantiles = {f"p{percent}": float(np.percentile(seconds, percent)) for percent in (50, 90, 95, 99)}
    return {"mean": float(np.mean(seconds)), **quantiles, "stdev": float(np.std(seconds))}


def latency_json(
    prefill: Sequence[float], decode: Sequence[float], tokens: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Return the latencies of runs as cost.json has them, in seconds.

    Args:
        prefill, decode: of each run.
        tokens: the times between tokens of each run.
    """
    generate = [before + after for before, after in zip(prefill, decode, strict=True)]
    per_token = [gap for gaps in tokens for gap in gaps]
    return {
        "prefill": statistics(prefill) | {"values": list(prefill)},
        "decode": statistics(decode) | {"values": list(decode)},
        "generate": statistics(generate),
        "per_token": statistics(per_token),
    }


def energy_json(energy: MeasuredEnergy | str) -> dict[str, Any]:
    """Return the energy as cost.json has it; a text is why there is none."""
    return {"source": None, "reason": energy} if isinstance(energy, str) else asdict(energy)


def cost_metrics(cost: Mapping[str, Any]) -> dict[str, float]:
    """Return the `cost/` metrics of a cost.json, without those that were not measured."""
    shape, latency = cost["shape"], cost["latency"]
    decoded = shape["batch_size"] * (shape["new_tokens"] - 1)
    found: dict[str, float | None] = {
        "cost/prefill_p50_ms": 1e3 * latency["prefill"]["p50"],
        "cost/decode_tokens_per_s": decoded / latency["decode"]["mean"],
    }
    for name, value in (cost.get("memory") or {}).items():
        found[f"cost/max_{name}_mb"] = value
    energy = cost.get("energy") or {}
    if energy.get("source") is not None:
        prefill, generate = (
            energy[name]["joules"] / energy[name]["runs"] for name in ("prefill", "generate")
        )
        found["cost/energy_j_prefill"] = prefill
        if generate > prefill:  # else the counter is too coarse for so small a model
            found["cost/energy_j_per_token"] = (generate - prefill) / decoded
            found["cost/tokens_per_kwh"] = JOULES_PER_KWH * decoded / (generate - prefill)
    return {key: float(value) for key, value in found.items() if value is not None}


def energy_per_token(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the `energy/` metrics of a decoding, from the facts in parts.json; none where it has no energy.

    The energy is that of all points that were decoded together, and so are the tokens.
    """
    joules, tokens = facts.get("joules"), facts.get("tokens")
    return {"energy/j_per_token": joules / tokens} if joules and tokens else {}
