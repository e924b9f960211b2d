"""Sweeps of points whose samples have the test's values, for what is computed from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_points import write_table

from harness.analysis.point_results import point_results
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint

Rows = Sequence[Mapping[str, Any]]


def rows(prompts: int = 1, **columns: Sequence[Any]) -> Rows:
    """Return one sample of each prompt `p0`, `p1`, ...; each column has one value per prompt."""
    count = max([prompts, *map(len, columns.values())])
    return [
        {"prompt_id": f"p{i}", "sample": 0, **{name: values[i] for name, values in columns.items()}}
        for i in range(count)
    ]


def store(
    outputs: Path, point_id: str, samples: Rows, metrics: Mapping[str, float], timing: Rows = ()
) -> StoredPoint:
    """Write a point with these samples; columns that they lack are the same for all points."""
    stored = StoredPoint(outputs / "points" / point_id)
    stored.folder.mkdir(parents=True)
    defaults = {"prompt": "It was", "output": "a dark night", "finish_reason": "eos", "output_tokens": 4}
    write_table([{**defaults, **row} for row in samples], stored.path("generations.parquet"))
    if timing:
        write_table(timing, stored.path("timing.parquet"))
    stored.path("metrics.json").write_text(json.dumps({"metrics": dict(metrics)}), encoding="utf-8")
    return stored


def timed(prompt_id: str, *ttft: float, itl: float = 2.0, batch_size: int = 1) -> list[dict[str, Any]]:
    """Return repetitions of one prompt, three tokens each."""
    return [
        {
            "prompt_id": prompt_id,
            "repeat": repeat,
            "batch_size": batch_size,
            "ttft_ms": first,
            "decode_ms": 2 * itl,
            "output_tokens": 3,
            "itl_ms": [itl, itl],
        }
        for repeat, first in enumerate(ttft)
    ]


def sweep_of(outputs: Path, *points: SweepPoint, **compare: Any) -> Sweep:
    """Return a sweep of these points."""
    folder = outputs / "sweeps" / "compared-0123456789"
    return Sweep("compared", "0123456789", folder, {}, points, 0.0, compare)


def sweep_point(decoding: str, model: str = "m", prompts: str = "set", **varied: Any) -> SweepPoint:
    """Return a completed point, its folder named after its decoding."""
    status: Any = varied.pop("status", "done")
    keys = {key.replace("__", "."): value for key, value in varied.items()}
    point_id = varied.get("point_id", f"{model}-{prompts}-{decoding}" + "".join(map(str, keys.values())))
    settings = [f"{key}={value}" for key, value in keys.items()]
    label = " ".join([f"{model}/{decoding}", *settings])
    return SweepPoint(label, point_id, model, "fp32", prompts, decoding, keys, status)


__all__ = ["point_results", "rows", "store", "sweep_of", "sweep_point", "timed"]
