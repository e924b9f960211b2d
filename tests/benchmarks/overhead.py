"""The overhead of a point: a thousand points of the smallest built-in model, logged to MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

POINTS = 1000
BUDGET = 0.25
SWEEP = [
    "model=fable_tiny",
    "prompts=storytelling",
    "prompts.limit=2",
    "timing=off",
    "generation.max_new_tokens=8",
    "decoding=temperature",
]


def main(points: int = POINTS) -> None:
    """Print the results."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"HARNESS_OUTPUTS": folder}
        temperatures = ",".join(f"{0.5 + index / 1000:.4f}" for index in range(points))
        command = [sys.executable, "-m", "harness", "-m", *SWEEP, f"decoding.temperature={temperatures}"]
        started = time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        (plan,) = Path(folder).glob("sweeps/*/plan.json")
        ended = sorted(point["ended"] for point in json.loads(plan.read_text())["points"])
        (parts, *_) = Path(folder).glob("points/*/parts.json")
        decoding = json.loads(parts.read_text())["facts"]["decode_seconds"]
        started = time.perf_counter()
        subprocess.run([*command[:3], "plan", *command[3:]], check=True, env=environment, capture_output=True)
        planning = time.perf_counter() - started
    first, last = ended[100] - ended[0], ended[-1] - ended[-101]
    each = (seconds - decoding) / points
    print(f"\n{points} points on fable_tiny, logged to MLflow: {seconds:.0f} s, decoding {decoding:.0f} s")
    print(f"overhead {each:.3f} s per point ≤ {BUDGET}")
    print(f"the first 100 took {first:.1f} s, the last 100 {last:.1f} s")
    print(f"the plan alone: {planning:.1f} s ≤ 15")
