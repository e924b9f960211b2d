"""What the model of a point costs: cost.json, measured once for all points that it is the same for."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.artifacts.timing import SHARED_NODE, alone, measured_on
from harness.backends.costing import CostedBackend, CostShape
from harness.config.point import Point
from harness.errors import HarnessError
from harness.store.address import digest
from harness.store.device_turns import BESIDE_OTHERS
from harness.store.files import read_json, write_text


def cost_spec(point: Point) -> dict[str, Any]:
    """Return what a stored cost must have been measured with to serve a point."""
    spec = point.timing.model_dump(mode="json", exclude={"name", "enabled", "prompts"})
    spec["threads"] = point.engine.threads
    if point.model.devices == "auto":
        spec["devices"] = "auto"
    return spec


class Cost(Artifact):
    """cost.json, a copy of `outputs/costs/<address>.json`.

    The address is of what a cost depends on: weights, quantization, cache, attention, device, library
    versions and how it is measured; not of prompts and strategies.
    """

    name = "cost"
    action = "measure cost"
    files = ("cost.json",)

    def spec(self, job: Job) -> Any:
        """Return how it is measured."""
        return cost_spec(job.point) if job.point.timing.measures_cost else None

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Measure the model, unless that was done for another point."""
        stored, spec = bench.stored(job), cost_spec(job.point)
        place = measured_on(bench.backend.environment())
        address = digest({**job.target.facts, "cache": job.target.cache, "spec": spec, "on": place})
        path = bench.outputs / "costs" / f"{address}.json"
        cost = _known(path, job, bench)
        if cost is None:
            cost = {"address": address, "measured_on": place, "measured": time.time(), **_measure(job, bench)}
            write_text(path, _json(cost))
        stored.write_json("cost.json", cost)
        complete(stored, self, spec)
        return (SHARED_NODE,) if place.endswith(BESIDE_OTHERS) else ()


def _known(path: Path, job: Job, bench: Workbench) -> dict[str, Any] | None:
    """Return the cost that is stored; None where there is none, or a fresh one is asked for."""
    cost = read_json(path)
    if not isinstance(cost, dict) or "latency" not in cost:
        return None
    if job.point.engine.fresh and cost["measured"] < (bench.opened or 0.0):
        return None
    return cost


def _measure(job: Job, bench: Workbench) -> dict[str, Any]:
    from harness.artifacts.measure_cost import Measuring

    backend, timing = bench.backend, job.point.timing
    if not isinstance(backend, CostedBackend) or timing.prompt_tokens is None:
        raise HarnessError(
            f"timing={timing.name}: this backend does not run its model by itself; use backend=hf"
        )
    shape = CostShape(timing.prompt_tokens, timing.new_tokens, timing.batch_size, job.target.cache)
    shown = 0

    def show(part: float) -> None:
        nonlocal shown
        percent = round(100 * part)
        bench.progress.advance(percent - shown)
        shown = percent

    with alone(job, bench):
        bench.progress.stage(f"cost of {job.point.model.name}, {job.point.quantization.name}", 100, "%")
        found = Measuring(backend, shape, show).cost(timing, backend.energy_meter)
    return {"shape": asdict(shape), **found}


def _json(values: Any) -> str:
    import json

    return json.dumps(values, indent=1, allow_nan=False) + "\n"
