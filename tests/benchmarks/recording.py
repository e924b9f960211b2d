"""The time of recording: the same decoding with the recorder, and with one that records nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.backends.hf.batch import Row
from harness.backends.hf.recorder import Recorder, Seen
from harness.backends.hf.stock_generate import decode_rows
from harness.backends.hf.tree import Text, decode_tree
from harness.decoding.scores import Scores
from harness.decoding.strategy import Strategy
from harness.store.records import Steps
from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import (
    EIGHT,
    Loaded,
    fable_small,
    fake_detokenizer,
    llama_100m,
    qwen_half_billion,
    ragged_prompts,
    strategy,
)


class NullRecorder(Recorder):
    """Passes the logits to the strategies and records nothing."""

    def look(self, logits: Tensor) -> Seen:
        """Return the logits without statistics."""
        nothing = logits[:0]
        return Seen(Scores(logits), nothing, nothing, nothing, nothing)

    def observe(self, *_: Any, **__: Any) -> None:
        """Record nothing."""

    def end_step(self, seen: Seen) -> None:
        """Record nothing."""

    def finish(self) -> Any:
        """Return itself, without any data."""
        return self

    def steps(self, text: int, length: int, top_k: int) -> Steps:
        """Return no columns."""
        return Steps()


def measure(loaded: Loaded, texts: list[Text], stock: bool, turns: int) -> tuple[float, float]:
    """Return (milliseconds per step with the recorder, its overhead relative to the time without)."""

    def run(recorder: Recorder) -> int:
        if stock:
            strategy: Strategy = texts[0].strategy
            rows = [text.row for text in texts]
            decode_rows(loaded, strategy, rows, fake_detokenizer(), recorder=recorder)  # type: ignore[arg-type]
        else:
            decode_tree(loaded, texts, fake_detokenizer(), recorder=recorder)  # type: ignore[arg-type]
        return texts[0].strategy.max_new_tokens

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
        rows = [Row(prompt, 0) for prompt in ragged_prompts(loaded)]
        for name, texts, stock in (
            ("greedy, stock", [Text(greedy, row) for row in rows], True),
            ("top_p, stock", [Text(top_p, row) for row in rows], True),
            ("greedy, tree", [Text(greedy, row) for row in rows], False),
            ("eight strategies, tree", _eight(new_tokens, rows), False),
        ):
            per_step, cost = measure(loaded, texts, stock, turns * more)
            print(f"{f'{model}, {name}':48}{per_step:>10.1f}{cost:>8.1%} {most}", flush=True)


def _eight(new_tokens: int, rows: list[Row]) -> list[Text]:
    strategies = [strategy(new_tokens, **fields) for fields in EIGHT]
    return [Text(one, row) for one in strategies for row in rows]
