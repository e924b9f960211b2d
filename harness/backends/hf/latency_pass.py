"""The latency pass: one strategy at a time, nothing recorded.

Stock `generate` with a streamer is timed, or, for a method that it lacks, the loop that decodes it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from harness.analysis.latency import repetition, whole_run
from harness.backends.backend import Request
from harness.backends.hf.decoding_method import GenerateMode
from harness.backends.hf.guided_texts import GuidedTexts
from harness.backends.hf.methods import method_of
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.timed_processor import TimedProcessor, has_own_fields, without_processors
from harness.backends.steps.generation_config import generation_config
from harness.backends.steps.strategy_processors import strategy_processors
from harness.config.point import Timing
from harness.decoding.strategy import Strategy
from harness.models.load import LoadedModel
from harness.prompts.prompt import Prompt
from harness.store.records import Repetition


class _TokenTimes(BaseStreamer):
    """Records when each value reaches the host: the prompt, then each token (`generate` has copied them)."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        self.times.append(perf_counter())

    def end(self) -> None:
        pass


def synchronize(device: str) -> None:
    """Wait until the device has done all queued work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


@torch.inference_mode()
def time_strategy(
    loaded: LoadedModel,
    requests: Sequence[Request],
    timing: Timing,
    *,
    context_length: int | None,
    use_cache: bool = True,
    amateur: Callable[[str], LoadedModel] | None = None,
    on_repetition: Callable[[], None] = lambda: None,
) -> list[Repetition]:
    """Time the first `timing.prompts` requests of a strategy, `timing.repeats` times each after a warm-up.

    A fixed number of tokens is generated with end-of-text ignored, so that repetitions measure the same
    work; prompts that exceed `context_length` with them are left out. The time includes tokenization of the
    text. What of a strategy GenerationConfig lacks is applied by a logits processor of ours, which also reads
    what guidance needs; a method that `generate` lacks is timed in the loop that decodes it here. One that
    does not stream has no time to first token: only its complete run is timed. `on_repetition` is called
    after each repetition, warm-up included; `amateur` is as in `Runtime`.
    """
    strategy = requests[0].strategy
    fixed = replace(strategy, max_new_tokens=timing.new_tokens, eos_token_ids=(), stop_strings=())
    chosen = [
        request
        for request in requests
        if context_length is None or _prompt_tokens(request) + timing.new_tokens <= context_length
    ][: timing.prompts]
    repetitions = []
    cuda = [loaded.device] if loaded.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(strategy.seed)
        for start in range(0, len(chosen), timing.batch_size):
            batch = chosen[start : start + timing.batch_size]
            for number in range(timing.warmup + timing.repeats):
                timed = _time_once(loaded, fixed, batch, number - timing.warmup, use_cache, amateur)
                if number >= timing.warmup:
                    repetitions.append(timed)
                on_repetition()
    return repetitions


def _prompt_tokens(request: Request) -> int:
    return max(len(request.prompt.ids), len(request.second_prompt))


def _time_once(
    loaded: LoadedModel,
    strategy: Strategy,
    requests: Sequence[Request],
    repeat: int,
    use_cache: bool,
    amateur: Callable[[str], LoadedModel] | None,
) -> Repetition:
    batch = [request.prompt for request in requests]
    name = ",".join(prompt.id for prompt in batch)
    method = method_of(strategy.effective, strategy.cache)
    loop = method.timed_steps(loaded, strategy, [prompt.ids for prompt in batch], use_cache)
    if loop is not None:
        started = _start(loaded, batch)
        times = [perf_counter() for _ in loop]
        synchronize(loaded.device)
        if method.streams:
            return repetition(name, repeat, len(batch), started, times)
        return whole_run(name, repeat, len(batch), started, perf_counter(), strategy.max_new_tokens)
    guided = processor = None
    config = generation_config(strategy, use_cache=use_cache)
    if has_own_fields(strategy):
        processors = strategy_processors(loaded, strategy)
        if processors.guidance is not None:
            mode = GenerateMode("any", use_cache)
            guided = GuidedTexts(loaded, processors.guidance, requests, mode, amateur)
        processor = TimedProcessor(processors, [len(prompt.ids) for prompt in batch], guided)
        plain = replace(strategy, effective=without_processors(strategy))
        config = generation_config(plain, use_cache=use_cache)
    tokens = _TokenTimes()
    started = _start(loaded, batch)
    inputs = pad_left([prompt.ids for prompt in batch], strategy.pad_token_id, loaded.device)
    more: dict[str, Any] = {"streamer": tokens} if method.streams else {}
    if processor is not None:
        more["logits_processor"] = LogitsProcessorList([processor])
    with nullcontext() if guided is None else guided.watching():
        loaded.model.generate(**inputs, generation_config=config, **more)
    synchronize(loaded.device)
    ended = perf_counter()
    if not method.streams:
        return whole_run(name, repeat, len(batch), started, ended, strategy.max_new_tokens)
    return repetition(name, repeat, len(batch), started, tokens.times[1:])


def _start(loaded: LoadedModel, batch: Sequence[Prompt]) -> float:
    """Return when the work on some prompts began, with which their texts are tokenized."""
    synchronize(loaded.device)
    started = perf_counter()
    for prompt in batch:
        # The ids are known; a deployed loop would tokenize the text here.
        loaded.tokenizer(prompt.text, add_special_tokens=False)
    return started
