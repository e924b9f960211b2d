"""`make bench`: benchmarks, which are not tests; `python -m tests.benchmarks recording` runs one."""

from __future__ import annotations

import importlib
import os
import sys

import torch

ALL = (
    "start", "recording", "memory", "fusing", "many_prompts", "long_prompts", "strategies", "process",
    "wall_time", "overhead", "metrics", "flat", "drift", "quantizations", "tracing", "pages", "significance",
    "selection", "workers", "gpu",
)  # fmt: skip


def main(names: list[str]) -> None:
    """Run the benchmarks named, or all."""
    torch.set_num_threads(os.cpu_count() or 1)
    for name in names or ALL:
        if name not in ALL:
            sys.exit(f"{name}: no such benchmark; available: {', '.join(ALL)}")
        importlib.import_module(f"tests.benchmarks.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
