"""From the start of a command to its first token, compared with a script's own imports and loading.

Nothing is instrumented: of one prompt and one token, the store says when decoding began and how long it took.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.benchmarks.contend import contend
from tests.benchmarks.whole_command import Checkpoint, environment

BUDGET = 1.2
SCRIPT = """
import sys, time
import torch, transformers
transformers.AutoTokenizer.from_pretrained(sys.argv[1])
transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="float32")
print(time.time())
"""
COMMANDS: dict[str, tuple[float, list[str]]] = {
    "import harness": (0.05, ["-c", "import harness"]),
    "harness --help": (0.4, ["-m", "harness", "--help"]),
    "harness plan": (1.5, ["-m", "harness", "plan"]),
    "harness check": (1.5, ["-m", "harness", "check"]),
}
"""Seconds that each may take, beside what an interpreter takes that does nothing."""


def seconds_of(words: Sequence[str], folder: Path) -> float:
    """Return how long a process takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, env=environment(folder), capture_output=True)
    return time.perf_counter() - began


def first_token(overrides: Sequence[str], folder: Path) -> float:
    """Return the seconds from the start of a command to its first token."""
    began = time.time()
    words = ["-m", "harness", *overrides, "generation.max_new_tokens=1", "timing=off", "compare.noise=false"]
    subprocess.run([sys.executable, *words], check=True, env=environment(folder), capture_output=True)
    (plan,) = (folder / "outputs").glob("sweeps/*/plan.json")
    (point,) = json.loads(plan.read_text())["points"]
    parts = folder / "outputs" / "points" / point["point_id"] / "parts.json"
    return float(point["started"] - began + json.loads(parts.read_text())["facts"]["decode_seconds"])


def main(turns: int = 5) -> None:
    """Print the results."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        model = base / "model"
        (prompt,) = Checkpoint(model).prompts(1)
        (base / "prompts.jsonl").write_text(json.dumps({"id": "p", "prompt": prompt}) + "\n")
        overrides = [
            f"model.id={model}",
            "prompts=custom",
            f"prompts.file={base / 'prompts.jsonl'}",
            "decoding=greedy",
            f"engine.threads={threads}",
        ]
        firsts: list[float] = []
        loads: list[float] = []

        def harness() -> int:
            firsts.append(first_token(overrides, base / f"turn{len(firsts)}"))
            return 1

        def script() -> int:
            began = time.time()
            words = [sys.executable, "-c", SCRIPT, str(model)]
            done = subprocess.run(words, check=True, env=environment(base), capture_output=True, text=True)
            loads.append(float(done.stdout) - began)
            return 1

        contend({"harness": harness, "script": script}, turns, warmup=1)
        pairs = list(zip(firsts[1:], loads[1:], strict=True))
        ratio = statistics.median(first / load for first, load in pairs)
        first, load = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"\nStart: 100M fp32, {threads} threads, files in the page cache")
        print(
            f"first token of the command {first:.2f} s, a script's imports and loading {load:.2f} s: "
            f"{ratio:.2f}x ≤ {BUDGET:g}"
        )
        nothing = statistics.median(seconds_of(["-c", ""], base) for _ in range(turns))
        for name, (limit, words) in COMMANDS.items():
            found = statistics.median(seconds_of(words, base) for _ in range(turns)) - nothing
            print(f"{name} {found:.2f} s ≤ {limit:g}")
