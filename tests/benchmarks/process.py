"""Complete sweeps, from the start of the process to the end of logging, compared with a plain script."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import torch

from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import EIGHT
from tests.benchmarks.whole_command import Checkpoint, Sweep, in_words, phases, run

FORTY = tuple(
    {"do_sample": True, "temperature": temperature, "top_p": top_p}
    for temperature, top_p in itertools.product(
        (0.6, 0.8, 1.0, 1.2, 1.4), (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
    )
)
CASES: tuple[tuple[Sweep, float, int], ...] = (
    (Sweep(EIGHT, prompts=8, new_tokens=48), 2.2, 3),
    (Sweep(EIGHT, prompts=64, new_tokens=128), 3.0, 1),
    (Sweep(FORTY, prompts=8, new_tokens=48), 3.0, 1),
)
"""Sweeps, the least ratio of the script's time to the command's, and turns."""


def compare(checkpoint: Checkpoint, sweep: Sweep, budget: float, turns: int, scratch: Path) -> None:
    """Print one sweep's results; the phases are those of the command's median turn."""
    count = itertools.count()
    measured: list[dict[str, float]] = []

    def folder() -> Path:
        path = scratch / str(next(count))
        path.mkdir(parents=True)
        return path

    def harness() -> int:
        own = folder()
        began, ended = run([*checkpoint.command(sweep, own), "timing=off"], own)
        measured.append(phases(own / "outputs", began, ended))
        return sweep.tokens

    def script() -> int:
        own = folder()
        run(checkpoint.script(sweep, own), own)
        return sweep.tokens

    times = contend({"harness": harness, "script": script}, turns, warmup=0)
    seconds = {name: sorted(some)[len(some) // 2] for name, some in times.seconds.items()}
    median = sorted(measured, key=lambda found: sum(found.values()))[len(measured) // 2]
    print(
        f"{sweep}: plain script {seconds['script']:.1f} s, harness {seconds['harness']:.1f} s: "
        f"{times.ratio('script', 'harness'):.2f}x ≥ {budget:g}\n  {in_words(median)}"
    )


def main() -> None:
    """Print the results."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        checkpoint = Checkpoint(base / "model")
        print(f"\nComplete sweeps, timing=off: 100M fp32, {threads} threads")
        for number, (sweep, budget, turns) in enumerate(CASES):
            compare(checkpoint, sweep, budget, turns, base / f"case{number}")
