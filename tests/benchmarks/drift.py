"""The cost of drift: per token, compared with a plain forward pass; and the memory for many texts."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness.artifacts.drift.measure import Drift
from harness.backends.hf.reference_files import Distributions, form_of, keep
from harness.backends.hf.teacher_forcing import Reader
from harness.decoding.detokenizer import Detokenizer
from harness.models.memory import peak_memory_mb, reset_peak_memory
from harness.prompts.passages import Passage
from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import Loaded, llama_100m

BUDGET, BUDGET_MEMORY = 1.5, 1.1
_DISK = 2**40


class StubTokenizer:
    """As much of a tokenizer as drift uses; the cost of texts is measured elsewhere."""

    all_special_ids = ()

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "x" * len(ids)

    def encode(self, text: str, **_: Any) -> list[int]:
        return [3]


def passages(count: int, tokens: int, vocabulary: int) -> list[Passage]:
    """Return texts of random tokens, scored from the sixteenth on."""
    rng = random.Random(0)
    return [
        Passage(f"p{index}", 0, tuple(rng.randrange(3, vocabulary) for _ in range(16 + tokens)), 16)
        for index in range(count)
    ]


def reference_of(loaded: Loaded, texts: list[Passage], folder: Path) -> Distributions:
    """Return the model's own distributions, stored as those of a reference."""
    reader = Reader(loaded)  # type: ignore[arg-type]
    positions = sum(map(len, texts))
    form = form_of(reader.head, loaded.model.config.vocab_size, positions, _DISK)
    keep(reader, iter(texts), folder / "own", folder / "heads", form, positions, 0)
    return Distributions(folder / "own", folder / "heads", loaded.device)


def drift_of(loaded: Loaded, folder: Path) -> Drift:
    """Return the object that a group uses for drift."""
    return Drift(loaded, Detokenizer(StubTokenizer()), folder, lambda *_: None, lambda _: None)  # type: ignore[arg-type]


def compare(drift: Drift, reference: Distributions, texts: list[Passage]) -> int:
    """Compare the model with the stored reference; return the number of tokens."""
    return sum(drift.compared(reference, n, some, 5).num_rows for n, some in reference.pieces(iter(texts)))


@torch.inference_mode()
def plain(loaded: Loaded, texts: list[Passage]) -> int:
    """Run a plain forward pass over each text; return the number of scored tokens."""
    for text in texts:
        loaded.model(input_ids=torch.tensor([text.ids[:-1]]), use_cache=False)
    return sum(map(len, texts))


def child(count: int, tokens: int) -> None:
    """Compare so many texts with their reference and print the peak memory in MB."""
    loaded = llama_100m()
    with tempfile.TemporaryDirectory() as folder:
        texts = passages(count, tokens, loaded.model.config.vocab_size)
        reset_peak_memory("cpu")
        compare(drift_of(loaded, Path(folder)), reference_of(loaded, texts, Path(folder)), texts)
        print(peak_memory_mb("cpu"))


def main(turns: int = 5) -> None:
    """Print the results."""
    loaded = llama_100m()
    threads = torch.get_num_threads()
    print(f"\nDrift of a model against itself, 100M fp32, 32,000 tokens, {threads} threads; ≤ budget")
    with tempfile.TemporaryDirectory() as folder:
        texts = passages(6, 96, loaded.model.config.vocab_size)
        reference = reference_of(loaded, texts, Path(folder))
        reader, drift = Reader(loaded), drift_of(loaded, Path(folder))  # type: ignore[arg-type]
        times = contend(
            {
                "plain": lambda: plain(loaded, texts),
                "reference": lambda: sum(len(hidden) for _, hidden in reader.hidden(texts)),
                "compare": lambda: compare(drift, reference, texts),
            },
            turns,
        )
    print(f"a plain forward pass takes {1e3 / times.speed('plain'):.2f} ms per token")
    print(f"the pass of the reference takes {times.ratio('reference', 'plain'):.2f}x of it")
    print(f"the pass of a compared point {times.ratio('compare', 'plain'):.2f}x ≤ {BUDGET}")
    peaks = {}
    for count, tokens in ((4, 48), (40, 48), (4, 480)):
        command = [sys.executable, "-m", "tests.benchmarks.drift", str(count), str(tokens), str(threads)]
        peaks[count, tokens] = float(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        print(f"{count} texts of {tokens} tokens: {peaks[count, tokens]:.0f} MB peak")
    few = peaks[4, 48]
    print(f"ten times the texts take {peaks[40, 48] / few:.2f}x the memory ≤ {BUDGET_MEMORY}")
    full_logits = 4 * 480 * 32_000 * 4 / 2**20
    print(
        f"texts ten times as long: {peaks[4, 480] - few:.0f} MB more; their logits would be {full_logits:.0f}"
    )


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    child(int(sys.argv[1]), int(sys.argv[2]))
