"""The cost of drift: its time per token relative to a plain forward pass, and its memory for many texts."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness.backends.hf.reference_comparison import ReferenceComparison
from harness.backends.hf.reference_files import StoredReference
from harness.backends.hf.teacher_forcing import TeacherForcing
from harness.decoding.detokenizer import Detokenizer
from harness.models.memory import peak_memory_mb, reset_peak_memory
from harness.progress import SILENT
from harness.prompts.passages import Passage
from harness.store.tables import drift_rows
from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import Loaded, llama_100m

BUDGET, BUDGET_MEMORY = 1.5, 1.1
_DISK = 2**40


class FakeTokenizer:
    """As much of a tokenizer as drift needs; the cost of detokenizing is measured elsewhere."""

    all_special_ids = ()

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "x" * len(ids)

    def encode(self, text: str, **_: Any) -> list[int]:
        return [3]


def passages(count: int, tokens: int, vocabulary: int) -> list[Passage]:
    """Texts of random tokens, scored from their sixteenth on."""
    generator = random.Random(0)
    return [
        Passage(f"p{index}", 0, tuple(generator.randrange(3, vocabulary) for _ in range(16 + tokens)), 16)
        for index in range(count)
    ]


def comparison_of(loaded: Loaded) -> ReferenceComparison:
    """What a loaded model compares with."""
    return ReferenceComparison(loaded, Detokenizer(FakeTokenizer()))  # type: ignore[arg-type]


def stored(loaded: Loaded, texts: list[Passage], folder: Path) -> StoredReference:
    """The model's own distributions, stored as those of a reference."""
    comparison, positions, heads = comparison_of(loaded), sum(map(len, texts)), folder / "heads"
    comparison.keep_reference(
        texts, folder / "own", heads, positions=positions, together=positions, budget=_DISK, share=0,
        progress=SILENT,
    )  # fmt: skip
    return comparison.open_reference(folder / "own", heads)


def compare(comparison: ReferenceComparison, reference: StoredReference, texts: list[Passage]) -> int:
    """Compare the model with the reference; returns the tokens."""
    return sum(
        len(drift_rows(p.passage.prompt_id, 0, p.passage.target_ids, p.token_texts, p.top_tokens, p.values))
        for number, chunk in reference.chunks(texts)
        for p in comparison.compare(reference, number, chunk, 5)
    )


@torch.inference_mode()
def plain(loaded: Loaded, texts: list[Passage]) -> int:
    """Run the forward pass that a script would run over each text; returns the scored tokens."""
    for text in texts:
        loaded.model(input_ids=torch.tensor([text.ids[:-1]]), use_cache=False)
    return sum(map(len, texts))


def child(count: int, tokens: int) -> None:
    """Store and compare so many texts, and print the peak memory in MB."""
    loaded = llama_100m()
    with tempfile.TemporaryDirectory() as folder:
        texts = passages(count, tokens, loaded.model.config.vocab_size)
        reset_peak_memory("cpu")
        compare(comparison_of(loaded), stored(loaded, texts, Path(folder)), texts)
        print(peak_memory_mb("cpu"))


def main(turns: int = 5) -> None:
    """Print the lines."""
    loaded = llama_100m()
    threads = torch.get_num_threads()
    print(
        f"\nDrift of a model from itself, 100M fp32, vocabulary of 32,000, {threads} threads; ≤ marks a limit"
    )
    with tempfile.TemporaryDirectory() as folder:
        texts = passages(6, 96, loaded.model.config.vocab_size)
        reference = stored(loaded, texts, Path(folder))
        forced, comparison = TeacherForcing(loaded), comparison_of(loaded)  # type: ignore[arg-type]
        times = contend(
            {
                "plain": lambda: plain(loaded, texts),
                "reference": lambda: sum(len(hidden) for _, hidden in forced.hidden_states(texts)),
                "compare": lambda: compare(comparison, reference, texts),
            },
            turns,
        )
    print(f"plain forward pass: {1e3 / times.speed('plain'):.2f} ms per token")
    print(f"pass of the reference: {times.ratio('reference', 'plain'):.2f}x")
    print(f"pass of the model compared with it: {times.ratio('compare', 'plain'):.2f}x ≤ {BUDGET}")
    peaks = {}
    for count, tokens in ((4, 48), (40, 48), (4, 480)):
        command = [sys.executable, "-m", "tests.benchmarks.drift", str(count), str(tokens), str(threads)]
        peaks[count, tokens] = float(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        print(f"{count} texts of {tokens} tokens: {peaks[count, tokens]:.0f} MB at most")
    few = peaks[4, 48]
    print(f"10x the texts take {peaks[40, 48] / few:.2f}x the memory ≤ {BUDGET_MEMORY}")
    logits = 4 * 480 * 32_000 * 4 / 2**20
    print(f"texts 10x as long take {peaks[4, 480] - few:.0f} MB more; their logits alone: {logits:.0f} MB")


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    child(int(sys.argv[1]), int(sys.argv[2]))
