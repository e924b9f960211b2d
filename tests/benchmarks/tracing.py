"""The time of traces: eight points of a hundred prompts, logged to MLflow and read back."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

POINTS = 8
PROMPTS = 100


def main(points: int = POINTS, prompts: int = PROMPTS) -> None:
    """Print the results."""
    sys.path.append(str(Path(__file__).parents[1]))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_OUTPUTS"] = folder
        from fake_points import make_sweep, write_table
        from mlflow_runs import TRACED, log_sweep

        from harness.store.stored_point import StoredPoint
        from harness.tracking.assessments import read_feedback

        decodings = [f"d{index}" for index in range(points)]
        texts = {f"p{index}": "It was a dark and stormy" for index in range(prompts)}
        sweep = make_sweep(
            Path(folder), ("m",), decodings=decodings, texts=texts, tokens=100, tracking=TRACED
        )
        for point in sweep.points:
            stored = StoredPoint(Path(folder) / "points" / point.point_id)
            times = {"started": point.started, "first_token": point.started + 0.1, "ended": point.ended}
            rows = [{"prompt_id": name, "sample": 0, **times, "batch": prompts} for name in texts]
            write_table(rows, stored.path("times.parquet"))
        log_sweep(replace(sweep, points=(), tracking={**TRACED, "experiment": "empty"}))
        print(f"\n{points} points of {prompts} prompts logged to MLflow, without and with traces:")
        plain = _seconds(lambda: log_sweep(replace(sweep, tracking={**TRACED, "traces": False})))
        traced = _seconds(lambda: log_sweep(sweep))
        each = 1000 * traced / points / prompts
        print(f"  runs {plain:.1f} s, traces {traced:.1f} s more: {each:.1f} ms each")
        print(f"  feedback read in {_seconds(lambda: read_feedback(sweep)):.1f} s")


def _seconds(work: object) -> float:
    started = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - started
