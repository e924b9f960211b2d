"""Where the wall time of a sweep goes: the share that is neither decoding nor timing, of the whole command.

Nothing is instrumented: the phases follow from the clock around the process and from what the store notes
anyway, when the plan was made, points began and ended, files were written, and how long decoding took.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.process import NEW_TOKENS, PROMPTS, override, prepare
from tests.benchmarks.shapes import EIGHT

BUDGET = 0.35
WORK = ("decoding", "timing")
CASES: dict[str, list[str]] = {"as users run it": [], "timing=off": ["timing=off"]}


def phases(outputs: Path, began: float, ended: float) -> dict[str, float]:
    """Return the seconds of each phase of the one sweep in a store, whose process began and ended then."""
    (plan,) = outputs.glob("sweeps/*/plan.json")
    sweep = json.loads(plan.read_text())
    points = sweep["points"]
    folders = [outputs / "points" / point["point_id"] for point in points]
    decoding = _json(folders[0] / "parts.json")["facts"]["decode_seconds"]  # all points decode together
    opened, planned = points[0]["started"], sweep["started"]
    timing, before = 0.0, opened + decoding
    for point, folder in sorted(zip(points, folders, strict=True), key=lambda pair: pair[0]["ended"]):
        if (folder / "timing.parquet").exists():
            timing += (folder / "timing.parquet").stat().st_mtime - before
        before = point["ended"]
    noise = sum(_json(path)["seconds"] for path in outputs.glob("points/*/noise.json"))
    written = plan.with_name("compare.html").stat().st_mtime
    return {
        "start and plan": planned - began,
        "MLflow, imports, load, self-test": opened - planned,
        "decoding": decoding,
        "timing": timing,
        "noise floor": noise,
        "metrics": before - opened - decoding - timing - noise,
        "page": written - before,
        "end of logging and process": ended - written,
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def measure(folder: Path, command: Sequence[str]) -> dict[str, float]:
    """Run a sweep into a new store; return its phases."""
    environment = os.environ | {
        "HARNESS_OUTPUTS": str(folder / "outputs"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.getcwd(),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # which few users have
    began = time.time()
    subprocess.run([sys.executable, "-m", *command], check=True, env=environment, capture_output=True)
    return phases(folder / "outputs", began, time.time())


def main(turns: int = 3) -> None:
    """Print the results: of each case the median turn, by its share."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        rows = [{"id": f"p{index}", "prompt": text} for index, text in enumerate(prepare(base / "model"))]
        (base / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [
            "harness",
            "-m",
            f"model.id={base / 'model'}",
            "prompts=custom",
            f"prompts.file={base / 'prompts.jsonl'}",
            f"cases=[{','.join(override(fields) for fields in EIGHT)}]",
            f"generation.max_new_tokens={NEW_TOKENS}",
            "generation.ignore_eos=true",
            f"engine.threads={threads}",
        ]
        print(
            f"\nWall time of a sweep: 100M fp32, {len(EIGHT)} strategies x {PROMPTS} prompts x {NEW_TOKENS} "
            f"tokens, {threads} threads"
        )
        for number, (name, more) in enumerate(CASES.items()):
            runs = [measure(base / f"{number}-{turn}", [*command, *more]) for turn in range(turns)]
            share = statistics.median_low([rest(found) for found in runs])
            found = next(one for one in runs if rest(one) == share)
            limit = f" ≤ {BUDGET:.0%}" if not more else ""
            print(
                f"{name}: {sum(found.values()):.1f} s, {share:.0%} neither decoding nor timing{limit}\n  "
                + ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in found.items())
            )


def rest(found: dict[str, float]) -> float:
    """Return the share that is neither decoding nor timing."""
    return 1 - sum(found[name] for name in WORK) / sum(found.values())
