"""Where the wall time of a sweep goes: the share that is neither decoding nor timing."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch

from tests.benchmarks.shapes import EIGHT
from tests.benchmarks.whole_command import Checkpoint, Sweep, in_words, phases, run

BUDGET = 0.3
WORK = ("decoding", "timing")
SWEEP = Sweep(EIGHT, prompts=8, new_tokens=48)
CASES: dict[str, list[str]] = {"as users run it": [], "timing=off": ["timing=off"]}


def main(turns: int = 3) -> None:
    """Print the results: of each case the median turn, by its share."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        checkpoint = Checkpoint(base / "model")
        print(f"\nWall time of a sweep: 100M fp32, {SWEEP}, {threads} threads")
        for number, (name, more) in enumerate(CASES.items()):
            runs = []
            for turn in range(turns):
                folder = base / f"{number}-{turn}"
                folder.mkdir()
                began, ended = run([*checkpoint.command(SWEEP, folder), *more], folder)
                runs.append(phases(folder / "outputs", began, ended))
            share = statistics.median_low([rest(found) for found in runs])
            found = next(one for one in runs if rest(one) == share)
            limit = f" ≤ {BUDGET:.0%}" if not more else ""
            print(
                f"{name}: {sum(found.values()):.1f} s, {share:.0%} neither decoding nor timing{limit}\n  "
                f"{in_words(found)}"
            )


def rest(found: dict[str, float]) -> float:
    """Return the share that is neither decoding nor timing."""
    return 1 - sum(found[name] for name in WORK) / sum(found.values())
