"""What the tree saves: all strategies together, compared with stock `generate` once per strategy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from harness.backends.backend import Request
from harness.backends.hf.decoding_method import Work
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.generation_config import generation_config
from harness.decoding.strategy import Strategy
from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import (
    EIGHT,
    NEAR_TOP_PS,
    SHIPPED,
    TOP_PS,
    Loaded,
    NoText,
    llama_100m,
    qwen_half_billion,
    ragged_prompts,
    some_ends,
    strategy,
)


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        name: model and strategies.
        loaded: returns the model.
        fields: of each strategy.
        new_tokens: per sample, at most.
        once: required speedup of the tree over stock `generate` once per strategy.
        alone: required speedup over one prompt at a time; 0 to skip that.
        ends: samples end at random, after at least 8 tokens.
    """

    name: str
    loaded: Callable[[], Loaded]
    fields: tuple[dict[str, Any], ...]
    new_tokens: int
    once: float
    alone: float = 0
    ends: bool = False


LINES = (
    Line("100M fp32, eight strategies, 64 tokens", llama_100m, EIGHT, 64, once=3.5, alone=12),
    Line("100M fp32, eight of conf/decoding, 64 tokens", llama_100m, SHIPPED, 64, once=3.5),
    Line("100M fp32, top_p 0.5 to 0.98, 64 tokens", llama_100m, TOP_PS, 64, once=5),
    Line("100M fp32, top_p 0.8 to 1, 64 tokens", llama_100m, NEAR_TOP_PS, 64, once=5),
    Line("100M fp32, eight strategies, 8 to 64 tokens", llama_100m, EIGHT, 64, once=4, ends=True),
    Line("0.5B bf16, eight strategies, 32 tokens", qwen_half_billion, EIGHT, 32, once=3.5, alone=9),
)


@contextmanager
def forwards(loaded: Loaded) -> Iterator[list[float]]:
    """Measure the total seconds of the model's forward passes, in a list of one."""
    spent, started = [0.0], 0.0

    def now() -> float:
        if loaded.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    def begin(*_: Any) -> None:
        nonlocal started
        started = now()

    def end(*_: Any) -> None:
        spent[0] += now() - started

    hooks = [loaded.model.register_forward_pre_hook(begin), loaded.model.register_forward_hook(end)]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def count_tokens(output: torch.Tensor, width: int, ends: tuple[int, ...]) -> int:
    """Return the number of generated tokens up to each row's EOS."""
    last, eos = output.shape[1] - width - 1, set(ends)
    return sum(
        1 + next((index for index, token in enumerate(ids) if token in eos), last)
        for ids in output[:, width:].tolist()
    )


def measure(line: Line, turns: int) -> str:
    """Return a line of the table: speed, then for each rival (speedup, required speedup, upper bound)."""
    loaded = line.loaded()
    prompts = ragged_prompts(loaded)
    ends = some_ends(loaded) if line.ends else ()
    least = {"min_new_tokens": 8} if line.ends else {}
    strategies = [strategy(line.new_tokens, ends, **fields, **least) for fields in line.fields]
    requests = [Request(prompt, 0, one) for one in strategies for prompt in prompts]
    work: list[Work] = []
    bare: list[float] = []

    def apart() -> int:
        decode_tree(loaded, requests, NoText(), share=False, on_work=work.append)
        return work[-1].tokens

    def tree() -> int:
        with forwards(loaded) as spent:
            decode_tree(loaded, requests, NoText(), on_work=work.append)
        bare.append(work[-1].tokens / spent[0])
        return work[-1].tokens

    def stock(batches: list[list[tuple[int, ...]]]) -> int:
        return sum(generate_stock(loaded, one, batch) for one in strategies for batch in batches)

    ids = [prompt.ids for prompt in prompts]
    contenders = {"tree": tree, "apart": apart, "once": lambda: stock([ids])}
    if line.alone:
        contenders["alone"] = lambda: stock([[one] for one in ids])
    tree()  # warms up
    rows = work[-1].rows / work[-1].tokens
    bare.clear()
    times = contend(contenders, turns, warmup=0, once=("alone",))
    # The speedup if all but the forward passes of the same turn cost nothing.
    spare = statistics.median(
        speed * seconds / tokens
        for speed, seconds, tokens in zip(bare, times.seconds["tree"], times.tokens["tree"], strict=True)
    )
    cells = [f"{times.speed('tree'):>9.1f}{rows:>6.2f}"]
    for name, least_x in (("once", line.once), ("alone", line.alone), ("apart", 1.0)):
        if not least_x:
            cells.append(f"{'':>24}")
            continue
        ratio = times.ratio(name, "tree")
        cells.append(f"{ratio:>8.2f}x ≥ {least_x:<4g} ≤ {ratio * spare:<5.2f}")
    return "".join(cells)


def generate_stock(loaded: Loaded, one: Strategy, batch: list[tuple[int, ...]]) -> int:
    """Decode a batch by stock `generate`; return the number of generated tokens."""
    inputs = pad_left(batch, 0, loaded.device)
    with torch.inference_mode():
        output = loaded.model.generate(**inputs, generation_config=generation_config(one))
    return count_tokens(output, inputs["input_ids"].shape[1], one.eos_token_ids)


def main(turns: int = 3) -> None:
    """Print the table."""
    threads = torch.get_num_threads()
    print(f"\nFusing: 8 ragged prompts x 8 strategies, {threads} threads. Speedup of the tree,")
    print("≥ required, ≤ if all but its forward passes cost nothing. Medians of")
    print(
        f"{turns} turns; one prompt at a time has a single one. Rows: share of samples x steps, at most 0.75."
    )
    head = f"{'':44}{'tokens/s':>9}{'rows':>6}"
    print(head + f"{'stock, per strategy':>24}{'stock, one prompt':>24}{'rows apart':>24}")
    for line in LINES:
        print(f"{line.name:44}{measure(line, turns)}", flush=True)
