"""Sweeps of points whose samples have values said by the test, for what is computed from them."""

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
    """One sample of each prompt `p0`, `p1`, ...; a value of each column a prompt."""
    count = max([prompts, *map(len, columns.values())])
    return [
        {"prompt_id": f"p{i}", "sample": 0, **{name: values[i] for name, values in columns.items()}}
        for i in range(count)
    ]


def store(
    outputs: Path, point_id: str, samples: Rows, metrics: Mapping[str, float], timing: Rows = ()
) -> StoredPoint:
    """A point's folder of these samples; what they do not say is made up, alike for all points."""
    stored = StoredPoint(outputs / "points" / point_id)
    stored.folder.mkdir(parents=True)
    made_up = {"prompt": "It was", "output": "a dark night", "finish_reason": "eos", "output_tokens": 4}
    write_table([{**made_up, **row} for row in samples], stored.path("generations.parquet"))
    if timing:
        write_table(timing, stored.path("timing.parquet"))
    stored.path("metrics.json").write_text(json.dumps({"metrics": dict(metrics)}), encoding="utf-8")
    return stored


def timed(prompt_id: str, *ttft: float, itl: float = 2.0, batch_size: int = 1) -> list[dict[str, Any]]:
    """Repetitions of one prompt, three tokens each."""
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
    """A sweep of these points."""
    return Sweep("held", "0123456789", outputs / "sweeps" / "held-0123456789", {}, points, 0.0, compare)


def place(decoding: str, model: str = "m", prompts: str = "set", **varied: Any) -> SweepPoint:
    """A point that is done, its folder named as its decoding."""
    status: Any = varied.pop("status", "done")
    keys = {key.replace("__", "."): value for key, value in varied.items()}
    point_id = varied.get("point_id", f"{model}-{prompts}-{decoding}" + "".join(map(str, keys.values())))
    words = [f"{key}={value}" for key, value in keys.items()]
    label = " ".join([f"{model}/{decoding}", *words])
    return SweepPoint(label, point_id, model, "fp32", prompts, decoding, keys, status)


__all__ = ["place", "point_results", "rows", "store", "sweep_of", "timed"]
