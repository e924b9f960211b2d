"""Points of backends that tell little: outputs only, or the chosen token's logprob only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from fake_points import PROMPTS, write_point

from harness.store.records import Sample, Steps
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint, sweep_id_of
from harness.store.tables import generations_table, tokens_table

PIECES = ("Once", " upon", " a", " time", ",", " a", " fox", ".")
LOGPROBS = (-0.5, -0.25, -1.5, -0.125, -2.0, -3.0, -0.75, -0.0625)


def write_sparse_point(
    outputs: Path, point_id: str, *, logprobs: bool, texts: Mapping[str, str] = PROMPTS
) -> StoredPoint:
    """Write a point as such a backend gives it.

    Args:
        outputs: of the project.
        point_id: its folder's name.
        logprobs: whether it tells `token` and `logprob` of each step, else its outputs only.
        texts: prompt text by prompt id.
    """
    samples = []
    for prompt_id, prompt in texts.items():
        words = (*PIECES[:-1], f" {hashlib.sha256(prompt_id.encode()).hexdigest()[:4]}", PIECES[-1])
        values = np.resize(LOGPROBS, len(words)).astype(np.float32)
        steps = Steps(logprob=values, token=words) if logprobs else None
        samples.append(
            Sample(
                prompt_id=prompt_id,
                sample=0,
                prompt=prompt,
                output="".join(words),
                prompt_tokens=None,
                output_tokens=None,
                finish_reason=None,
                seed=0,
                steps=steps,
            )
        )
    stored = StoredPoint(outputs / "points" / point_id)
    stored.write_table("generations", generations_table(samples))
    stored.write_table("tokens", tokens_table(samples))
    metrics = {"text/distinct_2": 0.75, "text/words": 8.0}
    if logprobs:
        metrics["probability/mean_logprob"] = float(np.resize(LOGPROBS, len(PIECES) + 1).mean())
    stored.write_json("metrics.json", {"metrics": metrics, "intervals": {}, "per_prompt": {}})
    return stored


def sparse_sweep(outputs: Path, *, complete: bool = True) -> Sweep:
    """A sweep of a point with outputs only, one with logprobs, and, if `complete`, one with everything."""
    stored = [
        write_sparse_point(outputs, "texts0000000", logprobs=False),
        write_sparse_point(outputs, "logprobs0000", logprobs=True),
    ]
    if complete:
        stored.append(write_point(outputs, "complete0000", PROMPTS, tokens=8))
    points = tuple(
        SweepPoint(f"m/none/{name}", p.point_id, "m", "none", "made_up", name, {"decoding": name}, "done")
        for p in stored
        for name in [p.point_id.rstrip("0")]
    )
    sweep_id = sweep_id_of(p.point_id for p in points)
    sweep = Sweep("sparse", sweep_id, outputs / "sweeps" / f"sparse-{sweep_id}", {}, points, 1_790_000_000.0)
    sweep.save()
    return sweep
