"""The latency pass: one strategy at a time, stock `generate` with a streamer, the recorder off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from harness.analysis.latency import repetition, whole_run
from harness.backends.hf.batch import pad_left
from harness.config.point import Timing
from harness.decoding.strategy import Strategy
from harness.prompts.prompt import Prompt
from harness.store.records import Repetition

if TYPE_CHECKING:
    from harness.models.load import LoadedModel


class _Clock(BaseStreamer):
    """Notes when each token reaches the host; the first thing it is given is the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._saw_prompt = False

    def put(self, value: Tensor) -> None:
        """`generate` hands over tokens that are on the host already: the device is done with them."""
        if self._saw_prompt:
            self.times.append(perf_counter())
        self._saw_prompt = True

    def end(self) -> None:
        """Nothing is left to note."""


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


@torch.inference_mode()
def time_strategy(
    loaded: LoadedModel,
    strategy: Strategy,
    prompts: Sequence[Prompt],
    timing: Timing,
    *,
    context_length: int | None,
    on_repetition: Callable[[], None] | None = None,
) -> list[Repetition]:
    """Time the first `timing.prompts` prompts, `timing.repeats` times each after `timing.warmup`.

    A fixed number of tokens is made with end-of-text ignored, so that repetitions measure the same
    work. The clock starts with the text and its tokenization is inside; beams have no first token, so
    only their whole run is known.

    Args:
        loaded: the model.
        strategy: what is timed; its budget and its ends are replaced by the timing's.
        prompts: the point's prompts.
        timing: how much is timed.
        context_length: a prompt's tokens and the timed ones must fit; None where there is no limit.
        on_repetition: called after each repetition, warm-up included.
    """
    fixed = replace(strategy, max_new_tokens=timing.new_tokens, eos_token_ids=(), stop_strings=())
    chosen = [
        prompt
        for prompt in prompts
        if context_length is None or len(prompt.ids) + timing.new_tokens <= context_length
    ][: timing.prompts]
    repetitions = []
    cuda = [loaded.device] if loaded.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(strategy.seed)
        for start in range(0, len(chosen), timing.batch_size):
            batch = chosen[start : start + timing.batch_size]
            for turn in range(timing.warmup + timing.repeats):
                timed = _time_once(loaded, fixed, batch, turn - timing.warmup)
                if turn >= timing.warmup:
                    repetitions.append(timed)
                if on_repetition is not None:
                    on_repetition()
    return repetitions


def _time_once(loaded: LoadedModel, strategy: Strategy, batch: Sequence[Prompt], repeat: int) -> Repetition:
    name = ",".join(prompt.id for prompt in batch)
    config = strategy.config()
    clock = _Clock()
    synchronize(loaded.device)
    started = perf_counter()
    for prompt in batch:
        # The ids are known; a deployed loop would have to make them from the text, here and now.
        loaded.tokenizer(prompt.text, add_special_tokens=False)
    inputs = pad_left([prompt.ids for prompt in batch], strategy.pad_token_id, loaded.device)
    streamer = {"streamer": clock} if strategy.beams == 1 else {}
    loaded.model.generate(**inputs, generation_config=config, **streamer)
    synchronize(loaded.device)
    ended = perf_counter()
    if strategy.beams > 1:
        return whole_run(name, repeat, len(batch), started, ended, strategy.max_new_tokens)
    return repetition(name, repeat, len(batch), started, clock.times)
