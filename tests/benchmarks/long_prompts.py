"""Long prompts: rows that share a prompt's keys and values, compared with a copy for each row."""

from __future__ import annotations

import random
from functools import partial

import torch

from harness.backends.backend import Request
from harness.backends.hf.tree import decode_tree
from harness.prompts.prompt import Prompt
from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import EIGHT, Loaded, NoText, llama_100m, strategy

PROMPTS = 4
NEW_TOKENS = 32
LENGTHS = (128, 400, 1000)
CASES = {"eight strategies": (EIGHT, 1), "best of 16": (({"do_sample": True},), 16)}


def decode(loaded: Loaded, requests: list[Request], share_prefix: bool) -> int:
    """Decode; return the number of tokens."""
    decode_tree(loaded, requests, NoText(), share_prefix=share_prefix)
    return len(requests) * NEW_TOKENS


def main(turns: int = 3) -> None:
    """Print the table."""
    loaded = llama_100m(positions=2048)
    rng = random.Random(0)
    threads = torch.get_num_threads()
    print(f"\nLong prompts: 100M fp32, {PROMPTS} prompts x {NEW_TOKENS} tokens, {threads} threads;")
    print("prefill included.")
    print(f"{'':34}{'copies, s':>10}{'shared, s':>11}{'faster':>9}")
    for length in LENGTHS:
        ids = [tuple(rng.randrange(3, 32_000) for _ in range(length)) for _ in range(PROMPTS)]
        prompts = [Prompt(f"p{index}", "", one) for index, one in enumerate(ids)]
        for name, (fields, samples) in CASES.items():
            requests = [
                Request(prompt, sample, one)
                for one in [strategy(NEW_TOKENS, **some) for some in fields]
                for prompt in prompts
                for sample in range(samples)
            ]
            contenders = {
                "copies": partial(decode, loaded, requests, False),
                "shared": partial(decode, loaded, requests, True),
            }
            times = contend(contenders, turns)
            seconds = [sorted(times.seconds[one])[turns // 2] for one in contenders]
            line = f"{f'{length:,} tokens, {name}':34}{seconds[0]:>10.1f}{seconds[1]:>11.1f}"
            print(f"{line}{times.ratio('copies', 'shared'):>8.2f}x", flush=True)
