"""Decode steps on a GPU: time against the floor, what the device does meanwhile, the cost of recording."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from harness.backends.backend import Request
from harness.backends.hf.cuda_graphs import StaticSteps, capturable
from harness.backends.hf.latency_pass import synchronize
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.row_batch import RowBatch
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.generation_config import generation_config
from harness.backends.steps.recorder import Recorder
from harness.models.load import LoadedModel
from harness.models.memory import kv_cache_bytes
from harness.prompts.prompt import Prompt
from tests.benchmarks.contend import contend
from tests.benchmarks.gpu_clock import Profile, queueing, seconds_of
from tests.benchmarks.gpu_models import bytes_read
from tests.benchmarks.gpu_report import Report, ms
from tests.benchmarks.recording import NullRecorder
from tests.benchmarks.shapes import EIGHT, NoText, ragged_prompts, strategy

FLOOR_SHARE = 0.6
"""Required of a whole step of `FLOOR_CASE`: the floor over its time."""
FLOOR_CASE = ("7B bf16", 8)
RECORDING = 0.05
_SETTLED = 4
"""Steps after which the first ones, a captured graph among them, no longer count."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured: rows of the steps, prompt and new tokens, prompts of the sweeps, turns."""

    rows: tuple[int, ...] = (1, 8, 32, 64)
    prompt_tokens: int = 128
    new_tokens: int = 40
    prompts: tuple[int, ...] = (8, 64)
    sweep_tokens: int = 32
    turns: int = 3
    copied_bytes: int = 2 * 2**30


TINY = Sizes(
    rows=(1, 4), prompt_tokens=12, new_tokens=10, prompts=(2, 4), sweep_tokens=4, turns=1, copied_bytes=2**24
)


@dataclass(frozen=True)
class Bench:
    """What the sections measure: one model, its kind of steps, and where results go.

    Attributes:
        captures: steps run as CUDA graphs, as the harness runs them by default with this model.
        bandwidth: bytes a second of a copy.
        seconds: of a case, after which none of its turns begins.
        ends: `time.perf_counter` at which no further case begins.
    """

    name: str
    loaded: LoadedModel
    captures: bool
    bandwidth: float
    sizes: Sizes
    seconds: float
    ends: float
    report: Report

    def over(self, section: str, case: str) -> bool:
        """Return whether the time is up, and note what is left out."""
        if time.perf_counter() < self.ends:
            return False
        self.report.note(section, self.name, f"{case}: skipped, the time is up")
        return True

    @property
    def device(self) -> str:
        """Where the model is."""
        return self.loaded.device

    def requests(self, rows: int) -> list[Request]:
        """Return greedy requests of as many prompts of one length."""
        rng = random.Random(rows)
        vocabulary, length = self.loaded.files.vocab_size or 0, self.sizes.prompt_tokens
        greedy = strategy(self.sizes.new_tokens)
        ids = [tuple(rng.randrange(3, vocabulary) for _ in range(length)) for _ in range(rows)]
        return [Request(Prompt(f"p{row}", "", one), 0, greedy) for row, one in enumerate(ids)]


def checked_capture(bench: Bench) -> Bench:
    """Return the bench with captured steps where the model's steps are captured by default, and can be."""
    if not capturable(bench.loaded):
        return bench
    try:
        tree_steps(bench, bench.requests(2), capture=True)
    except Exception as error:
        bench.report.note("capture", bench.name, f"steps cannot be captured: {first_line(error)}")
        return bench
    return replace(bench, captures=True)


def steps(bench: Bench) -> None:
    """Report step times: the forward pass, the whole step of the tree, and stock `generate`, over the floor.

    The floor is what a step must read, the weights once and the keys and values of each row, over the
    bandwidth of a copy.
    """
    for rows in bench.sizes.rows:
        if bench.over("step", f"{rows} rows"):
            return
        requests = bench.requests(rows)
        forward = statistics.median(forward_steps(bench, requests))
        whole = statistics.median(tree_steps(bench, requests, bench.captures))
        stock = statistics.median(stock_steps(bench, requests))
        # Half of the new tokens are there in the median step.
        positions = bench.sizes.prompt_tokens + (_SETTLED + bench.sizes.new_tokens) // 2
        cache = rows * kv_cache_bytes(bench.loaded.files.config, positions, 2)
        floor = (bytes_read(bench.loaded) + cache) / bench.bandwidth
        aim = f" (aim ≥ {FLOOR_SHARE:.0%})" if (bench.name, rows) == FLOOR_CASE else ""
        bench.report.row(
            "step", bench.name, f"{rows} rows",
            f"floor {ms(floor)} ms, step {ms(whole)} ms: {floor / whole:.0%} of the floor's speed{aim}; "
            f"forward {ms(forward)} ms ({floor / forward:.0%}), stock generate {ms(stock)} ms "
            f"({floor / stock:.0%})",
            rows=rows, floor_ms=floor * 1e3, step_ms=whole * 1e3, forward_ms=forward * 1e3,
            stock_ms=stock * 1e3, floor_share=floor / whole, cache_bytes=cache, captured=bench.captures,
        )  # fmt: skip


@torch.inference_mode()
def forward_steps(bench: Bench, requests: list[Request]) -> list[float]:
    """Return the seconds of steps that only read the next token of each row."""
    new_tokens = bench.sizes.new_tokens
    prompts = [(request.prompt.ids, 0) for request in requests]
    steps = StaticSteps() if bench.captures else None
    batch = RowBatch(bench.loaded, prompts, pad=0, new_tokens=new_tokens, static_steps=steps)
    tokens = list(range(3, 3 + len(requests)))
    repeats = new_tokens - _SETTLED
    return seconds_of(bench.device, lambda: batch.advance(batch.members, tokens), repeats, _SETTLED)


def tree_steps(
    bench: Bench,
    requests: list[Request],
    capture: bool,
    recorder: Recorder | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Return the seconds of the tree's steps, from one choice of tokens to the next; they end on the host."""
    times: list[float] = []

    def step(_: int) -> None:
        times.append(time.perf_counter())
        on_step(len(times))

    steps = StaticSteps() if capture else None
    decode_tree(bench.loaded, requests, NoText(), static_steps=steps, recorder=recorder, on_step=step)
    return _gaps(times)


def stock_steps(
    bench: Bench, requests: list[Request], on_step: Callable[[int], None] = lambda _: None
) -> list[float]:
    """Return the mean seconds of a step of stock `generate`, which records nothing, in a list of one.

    Newer versions do not wait for the device at each step, so that single steps cannot be timed.
    """

    class Steps(LogitsProcessor):
        number, settled = 0, 0.0

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self.number += 1
            if self.number == _SETTLED:
                synchronize(bench.device)
                self.settled = time.perf_counter()
            on_step(self.number)
            return scores

    clock = Steps()
    inputs = pad_left([request.prompt.ids for request in requests], 0, bench.device)
    config = generation_config(requests[0].strategy)
    with torch.inference_mode():
        bench.loaded.model.generate(
            **inputs, generation_config=config, logits_processor=LogitsProcessorList([clock])
        )
    synchronize(bench.device)
    return [(time.perf_counter() - clock.settled) / (clock.number - _SETTLED)]


def launches(bench: Bench) -> None:
    """Report whether steps are bound by the host: the share of a step in which the device is at work."""
    requests = bench.requests(8 if 8 in bench.sizes.rows else bench.sizes.rows[-1])

    def tree(capture: bool) -> Callable[[Callable[[int], None]], list[float]]:
        return lambda on_step: tree_steps(bench, requests, capture, on_step=on_step)

    cases: dict[str, Callable[[Callable[[int], None]], list[float]]] = {
        "default": tree(bench.captures),
        "stock": lambda on_step: stock_steps(bench, requests, on_step),
    }
    if bench.device.startswith("cuda"):
        name = "not captured" if bench.captures else "captured"
        cases[name] = tree(not bench.captures)
    for case, run in cases.items():
        try:
            _launches_of(bench, f"{len(requests)} rows, {case}", run)
        except Exception as error:
            bench.report.note("launches", bench.name, f"{case}: {first_line(error)}")


def _launches_of(bench: Bench, case: str, run: Callable[[Callable[[int], None]], list[float]]) -> None:
    step = statistics.median(run(lambda _: None))
    profile = Profile(bench.device)
    found: list[Any] = []

    def on_step(number: int) -> None:
        if number == _SETTLED:
            profile.begin()
        elif number == bench.sizes.new_tokens - 1:
            found.append(profile.end())

    run(on_step)
    count = bench.sizes.new_tokens - 1 - _SETTLED
    if not found or found[0] is None:
        bench.report.note("launches", bench.name, f"{case}: step {ms(step)} ms; the profiler saw no kernels")
        _launches_unprofiled(bench)
        return
    busy, kernels = found[0].busy_seconds / count, found[0].kernels / count
    # The profiler slows the host, not the kernels: their time is compared with that of steps without it.
    share = min(1.0, busy / step)
    verdict = "launch-bound" if share < 0.7 else "device-bound"
    bench.report.row(
        "launches", bench.name, case,
        f"step {ms(step)} ms, device at work {ms(busy)} ms ({share:.0%}) in {kernels:.0f} kernels: {verdict}",
        step_ms=step * 1e3, busy_ms=busy * 1e3, busy_share=share, kernels=kernels,
    )  # fmt: skip


@torch.inference_mode()
def _launches_unprofiled(bench: Bench) -> None:
    """Report how long the host takes to queue a forward pass, and the device to run it: CUPTI is missing."""
    ids = torch.full((8, 1), 3, device=bench.device)
    found = queueing(bench.device, lambda: bench.loaded.model(input_ids=ids, use_cache=False))
    share = found.queued / found.done
    verdict = "launch-bound" if share > 0.9 else "device-bound"
    bench.report.row(
        "launches", bench.name, "8 rows, bare forward",
        f"queued by the host in {ms(found.queued)} ms, done after {ms(found.done)} ms: {verdict}",
        queued_ms=found.queued * 1e3, done_ms=found.done * 1e3, queued_share=share,
    )  # fmt: skip


def recording(bench: Bench) -> None:
    """Report what the recorder costs: the same decoding with it and with one that records nothing."""
    new_tokens = bench.sizes.sweep_tokens
    prompts = ragged_prompts(bench.loaded, bench.sizes.prompts[0])  # type: ignore[arg-type]
    eight = [strategy(new_tokens, **fields) for fields in EIGHT]
    cases = {"greedy": eight[:1], "eight strategies": eight}
    for case, strategies in cases.items():
        requests = [Request(prompt, 0, one) for one, prompt in itertools.product(strategies, prompts)]
        kept = StaticSteps() if bench.captures else None

        def run(recorder: Recorder, requests: list[Request] = requests, kept: Any = kept) -> int:
            decode_tree(bench.loaded, requests, NoText(), static_steps=kept, recorder=recorder)
            return new_tokens

        times = contend(
            {"with": lambda: run(Recorder(5)), "without": lambda: run(NullRecorder(5))},
            2 * bench.sizes.turns + 1,
            seconds=bench.seconds / 2,  # turns are short
        )
        cost = times.ratio("with", "without") - 1
        bench.report.row(
            "recording", bench.name, f"{len(prompts)} prompts, {case}",
            f"{ms(1 / times.speed('with'))} ms a step, {cost:+.1%} (aim ≤ {RECORDING:.0%})",
            step_ms=1e3 / times.speed("with"), cost=cost,
        )  # fmt: skip


def first_line(error: Exception) -> str:
    """Return an error in one line."""
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0][:160]}"


def _gaps(times: list[float]) -> list[float]:
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return gaps[_SETTLED:] or gaps
