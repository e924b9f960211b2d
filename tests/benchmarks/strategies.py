"""What each strategy costs a step, and what thirty of them cost in one tree, beside one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from harness.backends.backend import Request
from harness.backends.hf.decoding_method import Work
from harness.backends.hf.tree import decode_tree
from harness.cli.decoding_knobs import choices_of
from harness.config.effective import decoding_fields
from harness.config.groups import ConfigGroups
from harness.config.structure import STRUCTURES
from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import (
    NoText,
    fable_small,
    llama_100m,
    llama_small,
    ragged_prompts,
    strategy,
    tokenizer_of,
)

FASTER, DEARER = 5.0, 1.5
"""Required: the speedup of one tree, and the most that a strategy may cost a step beside greedy decoding."""

MAY_SORT = ("mirostat_1", "tfs")


STRUCTURED: dict[str, dict[str, Any]] = {
    "regex": {"regex": "[a-z ]{400}", "do_sample": True},
    "json": {
        "json_schema": {"type": "array", "items": {"type": "string", "minLength": 9}, "minItems": 99},
        "do_sample": True,
        "temperature": 0.8,
    },
    "choices": {"choices": ("a quiet evening by the river " * 8, "a long road " * 20), "do_sample": True},
}
GUIDED: dict[str, dict[str, Any]] = {
    "cfg": {"guidance_scale": 1.5},
    "contrastive_decoding": {"amateur": "small"},
    "dola": {"dola_layers": "low"},
}


def thirty() -> dict[str, dict[str, Any]]:
    """Return the strategies of experiments/all_samplers.yaml that need one row a text."""
    groups = ConfigGroups()
    found = choices_of(groups)
    for name in ("llama_cpp_default", "ollama_default", "webui_default"):
        found[name] = dict(groups.own_values("decoding", name) or {})
    chosen = {}
    others = {"num_beams", "penalty_alpha", "cot_branches", "stochastic_beams", "processors", *STRUCTURES}
    others |= set(decoding_fields("guidance"))
    for name, fields in found.items():
        known = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items() if v is not None}
        if not set(known) & others:
            chosen[name] = known
    return chosen


def together(name: str, loaded: Any, new_tokens: int, turns: int, least: float | None) -> None:
    """Print tokens per second of all strategies in one tree, and the speedup over one after the other."""
    prompts = ragged_prompts(loaded)
    strategies = [strategy(new_tokens, **fields) for fields in thirty().values()]
    work: list[Work] = []

    def one_tree() -> int:
        requests = [Request(prompt, 0, one) for one in strategies for prompt in prompts]
        decode_tree(loaded, requests, NoText(), on_work=work.append)
        return work[-1].tokens

    def one_by_one() -> int:
        tokens = 0
        for one in strategies:
            decode_tree(loaded, [Request(p, 0, one) for p in prompts], NoText(), on_work=work.append)
            tokens += work[-1].tokens
        return tokens

    times = contend({"tree": one_tree, "apart": one_by_one}, turns)
    one_tree()
    need = "" if least is None else f" ≥ {least:g}"
    print(
        f"{name}: {len(strategies)} strategies x {len(prompts)} prompts x {new_tokens} tokens: "
        f"{times.speed('tree'):,.0f} tokens/s in one tree, {times.ratio('apart', 'tree'):.2f}x{need} of one "
        f"after the other; rows {work[-1].rows / work[-1].tokens:.2f}",
        flush=True,
    )


def commands(new_tokens: int = 64) -> None:
    """Print how much faster one sweep of all strategies is than as many runs, as users start them."""
    tokens = f"generation.max_new_tokens={new_tokens}"
    common = ["model=fable_small", "prompts=storytelling", "timing=off", "tracking=off", tokens]
    names = list(thirty())

    def seconds(*words: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"HARNESS_OUTPUTS": folder, "PYTHONPATH": os.getcwd()}
            started = time.perf_counter()
            command = [sys.executable, "-m", "harness", *words, *common]
            subprocess.run(command, check=True, env=environment, capture_output=True)
            return time.perf_counter() - started

    sweep = seconds("-m", f"decoding={','.join(names)}")
    runs = sum(seconds(f"decoding={name}") for name in names)
    tokens_of_all = len(names) * 8 * new_tokens
    print(
        f"fable_small, commands: {len(names)} strategies x 8 prompts x {new_tokens} tokens in one sweep: "
        f"{tokens_of_all / sweep:,.0f} tokens/s, {sweep:.1f} s; as {len(names)} runs one after the other "
        f"{runs:.1f} s: {runs / sweep:.2f}x ≥ {FASTER:g}",
        flush=True,
    )


def each(turns: int, new_tokens: int = 16) -> None:
    """Print the time of a step of each strategy over that of greedy decoding, at 32,000 tokens."""
    loaded: Any = replace(llama_100m(), tokenizer=tokenizer_of(32_000))
    prompts = ragged_prompts(loaded)
    ends = (loaded.tokenizer.eos_token_id,)

    def run(fields: dict[str, Any]) -> int:
        work: list[Work] = []
        one = strategy(new_tokens, ends if set(fields) & set(STRUCTURES) else (), **fields)
        seconds = [prompt.ids[:6] if "guidance_scale" in fields else () for prompt in prompts]
        requests = [Request(p, 0, one, second) for p, second in zip(prompts, seconds, strict=True)]
        amateur: Any = lambda _: llama_small()  # noqa: E731
        decode_tree(loaded, requests, NoText(), amateur=amateur, on_work=work.append)
        return work[0].tokens

    chosen = {"greedy": {"do_sample": False}, **thirty(), **STRUCTURED, **GUIDED}
    times = contend({name: partial(run, fields) for name, fields in chosen.items()}, turns)
    ratios = {name: times.ratio(name, "greedy") for name in chosen if name != "greedy"}
    guided = {name: ratios.pop(name) for name in GUIDED}
    print(f"A step of 8 rows at 32,000 tokens over one of greedy decoding, \u2264 {DEARER:g}:")
    print("  " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    over = {n: r for n, r in ratios.items() if r > DEARER and n not in MAY_SORT}
    print(f"  above: {', '.join(over) or 'none'} (mirostat_1 and tfs may sort)")
    print(
        "  with a second row or model: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in guided.items())
    )


def main(turns: int = 3) -> None:
    """Print the results."""
    print(f"\nStrategies: {torch.get_num_threads()} threads, medians of {turns} turns")
    together("fable_small fp32", fable_small(), 64, turns, FASTER)
    commands()
    together("100M fp32", replace(llama_100m(), tokenizer=tokenizer_of(32_000)), 32, 1, None)
    each(turns)


if __name__ == "__main__":
    main()
