"""Workers side by side against one process: two groups of equal size; a thousand points in eight groups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch

from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import EIGHT, llama_100m
from tests.benchmarks.whole_command import Checkpoint, override

BUDGET = 1.7
OVERHEAD_BUDGET = 1.2
NEW_TOKENS = 128
WORKERS = ["hydra/launcher=local_gpus", "hydra.launcher.workers=2"]


def main(turns: int = 3) -> None:
    """Print the results."""
    with tempfile.TemporaryDirectory() as scratch:
        two_groups(Path(scratch), turns)
    thousand_points()


def two_groups(base: Path, turns: int) -> None:
    """Print how much faster two workers run two models than one process, one core for each process."""
    prompts = Checkpoint(base / "a").prompts(8)
    rows = [{"id": f"p{index}", "prompt": text} for index, text in enumerate(prompts)]
    (base / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with torch.no_grad():  # other weights of the same size, for the same one is written again
        llama_100m().model.lm_head.weight.copy_(llama_100m().model.lm_head.weight.roll(1, 0))
    Checkpoint(base / "b")
    command = [
        "-m",
        f"model.id={base / 'a'},{base / 'b'}",
        "prompts=custom",
        f"prompts.file={base / 'prompts.jsonl'}",
        f"cases=[{','.join(override(fields) for fields in EIGHT)}]",
        f"generation.max_new_tokens={NEW_TOKENS}",
        "generation.ignore_eos=true",
        "engine.threads=1",
        "timing=off",
    ]
    tokens = 2 * len(EIGHT) * len(rows) * NEW_TOKENS
    count = 0

    def run(more: Sequence[str]) -> Callable[[], int]:
        def turn() -> int:
            nonlocal count
            count += 1
            harness([*command, *more], base / f"outputs{count}")
            return tokens

        return turn

    times = contend({"serial": run([]), "workers": run(WORKERS)}, turns, warmup=0)
    seconds = {name: sorted(some)[len(some) // 2] for name, some in times.seconds.items()}
    print(
        f"\nTwo models of 100M fp32, {len(EIGHT)} strategies x {len(rows)} prompts x {NEW_TOKENS} tokens, "
        "one thread a process, whole commands"
    )
    print(
        f"one process {seconds['serial']:.1f} s, two workers {seconds['workers']:.1f} s: "
        f"{times.ratio('serial', 'workers'):.2f}x ≥ {BUDGET:g}"
    )


def thousand_points(points: int = 1000) -> None:
    """Print what a point costs beyond its decoding, and the head's memory, with two workers and without."""
    each = points // 8
    temperatures = ",".join(f"{0.5 + index / 1000:.4f}" for index in range(each))
    command = [
        "-m",
        "model=fable_tiny,fable_small",
        "quantization=fp32,bf16,fp16,bnb_nf4",
        "prompts=storytelling",
        "prompts.limit=2",
        "timing=off",
        "generation.max_new_tokens=8",
        "drift.enabled=false",
        "compare.noise=false",
        "decoding=temperature",
        f"decoding.temperature={temperatures}",
        "engine.threads=1",
    ]
    print(f"\n{8 * each} points in 8 groups, logged to MLflow; head's memory at 1/4 and at the end")
    overheads = {}
    for name, more in {"one process": [], "two workers": WORKERS}.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds, memory = harness([*command, *more], Path(folder))
        overheads[name] = seconds / (8 * each)
        early, late = memory[len(memory) // 4], memory[-1]
        print(f"{name}: {seconds:.0f} s, {overheads[name]:.3f} s a point; {early:.0f} MB, {late:.0f} MB")
    ratio = overheads["two workers"] / overheads["one process"]
    print(f"two workers / one process: {ratio:.2f} ≤ {OVERHEAD_BUDGET:g}")


def harness(words: Sequence[str], outputs: Path) -> tuple[float, list[float]]:
    """Run a command; return its seconds, and the MB of memory of its own process each half second."""
    environment = os.environ | {
        "HARNESS_OUTPUTS": str(outputs),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.getcwd(),
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *words], env=environment, stdout=subprocess.DEVNULL
    )
    memory: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        seen = psutil.Process(process.pid)
        while not ended.wait(0.5):
            memory.append(seen.memory_info().rss / 1e6)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - began
    ended.set()
    if status != 0:
        raise RuntimeError(f"harness {' '.join(words)} ended with {status}")
    return seconds, memory
