"""Many prompts, where batches are full either way: the tree compared with its forward passes, and with stock.

Decoding may take at most 1.15 times its forward passes; the rest is choosing and recording.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from harness.backends.backend import Request
from harness.backends.hf.batch_size import batch_rows
from harness.backends.hf.decoding_method import Work
from harness.backends.hf.shared_prefix import pays
from harness.backends.hf.tree import decode_tree
from harness.models.model_files import ModelFiles
from harness.prompts.prompt import Prompt
from tests.benchmarks.contend import contend
from tests.benchmarks.fusing import forwards, generate_stock
from tests.benchmarks.shapes import EIGHT, Loaded, NoText, llama_100m, ragged_prompts, strategy

NEW_TOKENS = 32
PROMPTS = (64, 256)
OVERHEAD = 1.15
SPEEDUP = 2.3


def batch_prompts(loaded: Loaded, requests: list[Request]) -> int:
    """Return how many prompts a sweep takes at once, with memory to spare."""
    config = loaded.model.config.to_dict()
    files = ModelFiles("", Path(), None, config, (), pickled=False, tensors=(), has_remote_code=False)
    return batch_rows(requests, files, loaded.device, 1 << 40, 4) // len(EIGHT)


def measure(loaded: Loaded, count: int, turns: int) -> str:
    """Return a line of the table."""
    prompts = ragged_prompts(loaded, count)
    strategies = [strategy(NEW_TOKENS, **fields) for fields in EIGHT]
    size = batch_prompts(loaded, [Request(prompts[0], 0, one) for one in strategies])
    work: list[Work] = []
    shares: list[float] = []

    def tree() -> int:
        work.clear()
        started = time.perf_counter()
        with forwards(loaded) as spent:
            for start in range(0, count, size):
                some = prompts[start : start + size]
                requests = [Request(prompt, 0, one) for one in strategies for prompt in some]
                share_prefix = pays(requests, loaded.device)  # as sweeps do
                decode_tree(loaded, requests, NoText(), share_prefix=share_prefix, on_work=work.append)
        shares.append((time.perf_counter() - started) / spent[0])
        return sum(one.tokens for one in work)

    def stock(some: list[Prompt]) -> int:
        ids = [prompt.ids for prompt in some]
        return sum(generate_stock(loaded, one, ids) for one in strategies)

    contenders = {"tree": tree}
    if count == PROMPTS[0]:
        contenders["stock"] = lambda: stock(prompts)
    times = contend(contenders, turns, warmup=0)
    share = statistics.median(shares)
    rows, tokens = sum(one.rows for one in work), sum(one.tokens for one in work)
    line = f"{count:>7}{size:>7}{1e3 / times.speed('tree'):>10.2f}{rows / tokens:>7.2f}"
    line += f"{share:>9.3f} ≤ {OVERHEAD:g}"
    if "stock" in contenders:
        ratio = times.ratio("stock", "tree")
        line += f"{ratio:>10.2f}x ≥ {SPEEDUP:g} ≤ {ratio * share:.2f}"
    return line


def main(turns: int = 3) -> None:
    """Print the table."""
    loaded = llama_100m()
    print(
        f"\nMany prompts: 100M fp32, 8 strategies x {NEW_TOKENS} tokens, {torch.get_num_threads()} threads."
    )
    print("Decoding over its forward passes, and stock `generate` per strategy over decoding; ≤ if all but")
    print("the forward passes cost nothing. Rows: share of samples x steps.")
    print(f"{'prompts':>7}{'batch':>7}{'ms/token':>10}{'rows':>7}{'over forward':>16}{'stock':>11}")
    for count in PROMPTS:
        print(measure(loaded, count, turns if count == PROMPTS[0] else 1), flush=True)
