"""Whether memory stays flat: the peak memory of a run with ten times as many prompts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEW, MANY = 1_000, 10_000
BUDGET = 1.25


def peak(prompts: int) -> tuple[float, float]:
    """Return (peak memory in MB, seconds) of a run with so many prompts."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.jsonl"
        rows = [{"id": f"p{index}", "prompt": f"Once upon a time, {index}"} for index in range(prompts)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = ["harness", "model=fable_tiny", f"prompts.file={file}", "decoding=top_p", "timing=off"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "generation.max_new_tokens=16"],
            env=os.environ | {"HARNESS_OUTPUTS": f"{folder}/outputs"},
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"the run exited with {status}")
        return usage.ru_maxrss / 1024, time.perf_counter() - started


def main() -> None:
    """Print the results."""
    print("\nMemory of a run with fable_tiny, 16 tokens per prompt")
    peaks = []
    for prompts in (FEW, MANY):
        megabytes, seconds = peak(prompts)
        peaks.append(megabytes)
        print(f"{prompts:,} prompts: {megabytes:.0f} MB peak, {seconds:.0f} s")
    print(f"ten times the prompts take {peaks[1] / peaks[0]:.2f}x the memory ≤ {BUDGET}")
