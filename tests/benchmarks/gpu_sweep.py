"""A sweep of eight strategies on a GPU, compared with what people run instead; and its memory."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch._dynamo.utils import counters
from transformers import StaticCache

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.batch_size import working_bytes
from harness.backends.hf.padded_batch import pad_left
from harness.backends.steps.generation_config import generation_config
from harness.config.point import Engine, Quantization
from harness.decoding.strategy import Strategy
from harness.progress import SILENT
from harness.prompts.prompt import Prompt
from tests.benchmarks.contend import contend
from tests.benchmarks.gpu_models import target_of
from tests.benchmarks.gpu_steps import Bench
from tests.benchmarks.shapes import EIGHT, ragged_prompts, strategy

PER_STRATEGY = 8.0
"""Required speedup over stock `generate` once per strategy."""
MEMORY = 1.1
_MIB = 2**20


class Sweep:
    """Eight strategies x some prompts, by the harness's backend and by stock `generate`."""

    def __init__(self, bench: Bench, backend: HfBackend, prompts: int) -> None:
        self.bench, self.backend = bench, backend
        self.prompts = ragged_prompts(bench.loaded, prompts)  # type: ignore[arg-type]
        self.strategies = [strategy(bench.sizes.sweep_tokens, **fields) for fields in EIGHT]
        self.requests = [
            Request(prompt, 0, one) for one, prompt in itertools.product(self.strategies, self.prompts)
        ]
        self.case = f"8 x {prompts} x {bench.sizes.sweep_tokens} tokens"

    def harness(self) -> int:
        """Decode all as a sweep does: recorded, with the texts; return the tokens."""
        self.backend.configure(Engine(compile="auto" if self.bench.captures else "off"))
        tokens = 0
        for answer in self.backend.generate(self.requests, SILENT):
            if isinstance(answer, Failure):
                raise answer.error
            tokens += len(answer.token_ids or ())
        return tokens

    def stock(self, prompts: list[Prompt], **more: Any) -> int:
        """Decode the prompts in one batch per strategy, nothing recorded; return the tokens."""
        return sum(self.generate(one, prompts, **more) for one in self.strategies)

    def alone(self) -> int:
        """Decode the first prompt by itself, with every fourth strategy; return the tokens."""
        return sum(self.generate(one, [self.prompts[0]]) for one in self.strategies[::4])

    def generate(
        self,
        one: Strategy,
        prompts: list[Prompt],
        cache: StaticCache | None = None,
        compile_config: Any = None,
    ) -> int:
        """Run stock `generate` as people call it; return the tokens.

        A static cache is used again and again: new addresses would have CUDA graphs recorded once more.
        """
        model = self.bench.loaded.model
        more: dict[str, Any] = {}
        if cache is not None:
            cache.reset()
            more["cache" if "cache" in signature(type(model).forward).parameters else "past_key_values"] = (
                cache
            )
        inputs = pad_left([prompt.ids for prompt in prompts], 0, self.bench.device)
        config = generation_config(one)
        config.compile_config = compile_config
        output = model.generate(**inputs, generation_config=config, **more)
        tokens = output[:, inputs["input_ids"].shape[1] :]
        tokens.tolist()  # as a user gets them
        return tokens.numel()

    def static_cache(self) -> StaticCache:
        """Return a cache that has room for all prompts in one batch."""
        longest = max(len(prompt.ids) for prompt in self.prompts)
        config = self.bench.loaded.model.config
        return StaticCache(config=config, max_cache_len=longest + self.bench.sizes.sweep_tokens)


def sweep(bench: Bench, backend: HfBackend) -> None:
    """Report the sweep against stock `generate`, batched per strategy and one prompt at a time."""
    for prompts in bench.sizes.prompts:
        run = Sweep(bench, backend, prompts)
        if bench.over("sweep", run.case):
            return
        run.harness()
        run.generate(replace(run.strategies[1], max_new_tokens=2), run.prompts)
        contenders = {"harness": run.harness, "stock": lambda run=run: run.stock(run.prompts)}
        contenders["alone"] = run.alone
        times = contend(contenders, bench.sizes.turns, warmup=0, once=("alone",), seconds=bench.seconds)
        usage = backend.usage()
        speedup, alone = times.ratio("stock", "harness"), times.ratio("alone", "harness")
        bench.report.row(
            "sweep", bench.name, run.case,
            f"{times.speed('harness'):,.0f} tokens/s ({usage.rows / usage.tokens:.2f} rows a token"
            f"{', captured' if usage.captured else ''}): {speedup:.1f}x stock generate per strategy "
            f"(aim ≥ {PER_STRATEGY:g}x), {alone:.0f}x one prompt at a time (two of them measured)",
            tokens_per_s=times.speed("harness"), stock_tokens_per_s=times.speed("stock"),
            alone_tokens_per_s=times.speed("alone"), per_strategy=speedup, alone=alone,
            rows_per_token=usage.rows / usage.tokens, turns=len(times.seconds["stock"]),
            captured=usage.captured,
        )  # fmt: skip


def compiled(bench: Bench, backend: HfBackend, compile_config: Any = None) -> None:
    """Report the sweep against stock `generate` with a static cache, whose steps transformers compiles."""
    if bench.loaded.facts["quantized_modules"]:
        bench.report.note(
            "compiled", bench.name, "skipped: transformers does not compile bitsandbytes' layers"
        )
        return
    for prompts in bench.sizes.prompts:
        run = Sweep(bench, backend, prompts)
        if bench.over("compiled", run.case):
            return
        torch._dynamo.reset()
        counters.clear()
        static: dict[str, Any] = {"cache": run.static_cache(), "compile_config": compile_config}
        run.harness()
        started = time.perf_counter()
        for _ in range(3):  # compiles, then warms up, then records CUDA graphs
            run.generate(run.strategies[0], run.prompts, **static)
        seconds = time.perf_counter() - started
        graphs = counters["stats"]["unique_graphs"]
        if not graphs:
            bench.report.note(
                "compiled", bench.name, f"{run.case}: nothing was compiled, a static cache alone"
            )
        contenders: dict[str, Callable[[], int]] = {
            "harness": run.harness,
            "static": lambda run=run, static=static: run.stock(run.prompts, **static),
        }
        times = contend(contenders, bench.sizes.turns, warmup=0, seconds=bench.seconds)
        skipped = counters["inductor"]["cudagraph_skips"]
        if counters["stats"]["unique_graphs"] > graphs or skipped:
            slower = (
                f"{run.case}: the rival compiled again in its turns, or ran without CUDA graphs ({skipped})"
            )
            bench.report.note("compiled", bench.name, slower)
        speedup = times.ratio("static", "harness")
        bench.report.row(
            "compiled", bench.name, run.case,
            f"{speedup:.1f}x stock generate per strategy with a static cache, compiled in {seconds:.0f} s "
            f"before ({times.speed('static'):,.0f} tokens/s)",
            static=speedup, static_tokens_per_s=times.speed("static"), compile_s=seconds,
            tokens_per_s=times.speed("harness"), turns=len(times.seconds["static"]),
        )  # fmt: skip


def memory(bench: Bench, backend: HfBackend, quantization: Quantization) -> None:
    """Report the peak of allocated memory beside what `harness plan` says of the same sweep.

    The plan says weights and cache; batches are sized by an estimate that also has room for logits.
    """
    target = target_of(bench.loaded, quantization)
    for prompts in bench.sizes.prompts:
        run = Sweep(bench, backend, prompts)
        run.harness()
        usage = backend.usage()
        # Of a CPU the peak is the whole process's: the line is made, but says nothing.
        peak = (usage.peak_mb or 0) * _MIB
        rows = min(usage.batch_rows, len(run.requests))
        weights = target.weight_bytes or 0
        plan = weights + rows * target.estimate(run.requests, rows).cache_bytes
        sizing = weights + rows * working_bytes(run.requests, target.info, 2)
        bench.report.row(
            "memory", bench.name, run.case,
            f"peak {peak / _MIB:,.0f} MiB, {peak / plan - 1:+.1%} to the plan's {plan / _MIB:,.0f} MiB of "
            f"weights and cache (aim ≤ {MEMORY - 1:+.0%}), {peak / sizing - 1:+.1%} to the "
            f"{sizing / _MIB:,.0f} MiB that batches are sized by",
            peak_mb=peak / _MIB, plan_mb=plan / _MIB, sizing_mb=sizing / _MIB, rows=rows,
            over_plan=peak / plan, over_sizing=peak / sizing,
        )  # fmt: skip
