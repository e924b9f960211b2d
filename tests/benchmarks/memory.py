"""The memory of recording: peak of a process that records, compared with one that does not."""

from __future__ import annotations

import subprocess
import sys

import torch

from harness.backends.backend import Request
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.recorder import Recorder
from harness.models.memory import peak_memory_mb, reset_peak_memory
from tests.benchmarks.recording import NullRecorder
from tests.benchmarks.shapes import EIGHT, NoText, llama_100m, ragged_prompts, strategy

BUDGET = 1.1


def child(recorder: Recorder) -> None:
    """Decode eight strategies and print the peak memory in MB."""
    loaded = llama_100m()
    prompts = ragged_prompts(loaded)
    strategies = [strategy(64, **fields) for fields in EIGHT]
    requests = [Request(prompt, 0, one) for one in strategies for prompt in prompts]
    reset_peak_memory("cpu")
    decode_tree(loaded, requests, NoText(), recorder=recorder)
    print(peak_memory_mb("cpu"))


def main() -> None:
    """Print the result."""
    peaks = {}
    for name in ("with", "without"):
        command = [sys.executable, "-m", "tests.benchmarks.memory", name, str(torch.get_num_threads())]
        peaks[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ratio = peaks["with"] / peaks["without"]
    print("\nPeak memory of the process, 100M fp32, eight strategies x 8 prompts x 64 tokens")
    text = ", ".join(f"{name} recording {peak:.0f} MB" for name, peak in peaks.items())
    print(f"{text}: {ratio:.3f}x ≤ {BUDGET}")


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    child(Recorder(5) if sys.argv[1] == "with" else NullRecorder(5))
