"""The time of recording: the same decoding with the recorder, and with one that records nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.backends.backend import Request
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.recorder import RawStep, Recorder
from harness.decoding.logits import Logits
from harness.prompts.prompt import Prompt
from harness.store.records import Steps
from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import (
    EIGHT,
    Loaded,
    NoText,
    fable_small,
    llama_100m,
    qwen_half_billion,
    ragged_prompts,
    strategy,
)


class NullRecorder(Recorder):
    """Passes the logits to the strategies and records nothing."""

    def begin_step(self, logits: Tensor) -> RawStep:
        """The logits and nothing computed from them."""
        return RawStep(Logits(logits), 0)

    def observe(self, *_: Any, **__: Any) -> None:
        """Record nothing."""

    def end_step(self, raw: RawStep) -> None:
        """Keep nothing."""

    def finish(self) -> Any:
        """Nothing was recorded."""
        return self

    def steps(self, sequence: int, length: int, top_k: int) -> Steps:
        """No columns."""
        return Steps()


def measure(loaded: Loaded, requests: list[Request], stock: bool, turns: int) -> tuple[float, float]:
    """(milliseconds a step with the recorder, its share of the time without)."""

    def run(recorder: Recorder) -> int:
        decode = stock_generate if stock else decode_tree
        decode(loaded, requests, NoText(), recorder=recorder)  # type: ignore[operator]
        return requests[0].strategy.max_new_tokens

    times = contend({"with": lambda: run(Recorder(5)), "without": lambda: run(NullRecorder(5))}, turns)
    return 1e3 / times.speed("with"), times.ratio("with", "without") - 1


def main(turns: int = 7, new_tokens: int = 32) -> None:
    """Print the table."""
    threads = torch.get_num_threads()
    print(f"\nRecording: 8 ragged prompts, {new_tokens} tokens, {threads} threads; ≤ budget")
    print(f"{'':48}{'ms per step':>10}{'cost':>8}")
    greedy, top_p = strategy(new_tokens), strategy(new_tokens, do_sample=True, top_p=0.9)
    for model, make, most, more in (
        ("100M fp32, 32,000 tokens", llama_100m, "≤ 5%", 1),
        ("0.5B bf16, 151,936 tokens", qwen_half_billion, "≤ 10%", 1),
        ("fable_small fp32, 2,048 tokens", fable_small, "", 3),
    ):
        loaded = make()
        prompts = ragged_prompts(loaded)
        for name, requests, stock in (
            ("greedy, stock", [Request(prompt, 0, greedy) for prompt in prompts], True),
            ("top_p, stock", [Request(prompt, 0, top_p) for prompt in prompts], True),
            ("greedy, tree", [Request(prompt, 0, greedy) for prompt in prompts], False),
            ("eight strategies, tree", _eight(new_tokens, prompts), False),
        ):
            per_step, cost = measure(loaded, requests, stock, turns * more)
            print(f"{f'{model}, {name}':48}{per_step:>10.1f}{cost:>8.1%} {most}", flush=True)


def _eight(new_tokens: int, prompts: list[Prompt]) -> list[Request]:
    strategies = [strategy(new_tokens, **fields) for fields in EIGHT]
    return [Request(prompt, 0, one) for one in strategies for prompt in prompts]
