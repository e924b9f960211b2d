"""A batch of stock `generate`: prompts padded on the left, the times of its steps, and what ends its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from harness.backends.backend import Request
from harness.backends.hf.clock import Clock
from harness.decoding.detokenizer import Detokenizer
from harness.models.load import LoadedModel
from harness.store.records import FinishReason, Times


def pad_left(sequences: Sequence[Sequence[int]], pad_token_id: int, device: str) -> dict[str, Tensor]:
    """Return `input_ids` and `attention_mask`, both (R, longest), padding on the left and masked out."""
    width = max(len(ids) for ids in sequences)
    ids = torch.full((len(sequences), width), pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


class _StopStrings(StoppingCriteria):
    """Ends a row once its output contains a stop string; with beams, a prompt has several adjacent rows."""

    def __init__(self, detokenizer: Detokenizer, requests: Sequence[Request]) -> None:
        self._detokenizer = detokenizer
        self._prompts = [request.prompt.ids for request in requests]
        self._width = max(len(ids) for ids in self._prompts)
        self._stop_strings = requests[0].strategy.stop_strings

    def found(self, prompt: int, generated: Sequence[int]) -> bool:
        """Return whether the output of a prompt (its index in the batch) contains a stop string."""
        return self._detokenizer.contains(self._stop_strings, self._prompts[prompt], generated)

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        generated = input_ids[:, self._width :].tolist()
        rows_per_prompt = len(generated) // len(self._prompts)
        done = [self.found(row // rows_per_prompt, ids) for row, ids in enumerate(generated)]
        return torch.tensor(done, device=input_ids.device)


class _StepCallback(StoppingCriteria):
    """Records the time of each step, calls back, and never ends a row."""

    def __init__(self, clock: Clock, on_step: Callable[[], None], wait_always: bool) -> None:
        self._clock, self._on_step = clock, on_step
        self._waits, self._wait_always = True, wait_always

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        if self._waits:
            # `generate` waits right after this, to learn whether a row is left: this takes no extra time.
            # A search still has work to queue in its step, so the host waits only where its prefill ends.
            input_ids[0, -1].item()
            self._waits = self._wait_always
        self._clock.step()
        self._on_step()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def generate_batch(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    config: GenerationConfig,
    on_step: Callable[[int], None],
    chooser: LogitsProcessor | None = None,
) -> list[tuple[list[int], FinishReason, Times]]:
    """Run stock `generate` over the requests of one strategy; `on_step` gets their number after each step.

    `chooser` chooses each row's token; None for a search, whose sequences are known only at the end.

    Returns:
        The generated ids of each request (nothing after their end), what ended them, and when.
    """
    clock = Clock()
    strategy = requests[0].strategy
    inputs = pad_left([request.prompt.ids for request in requests], strategy.pad_token_id, loaded.device)
    stops = _StopStrings(detokenizer, requests)
    criteria = StoppingCriteriaList([stops] if strategy.stop_strings else [])
    criteria.append(_StepCallback(clock, lambda: on_step(len(requests)), chooser is not None))
    output = loaded.model.generate(
        **inputs,
        generation_config=config,
        logits_processor=LogitsProcessorList([] if chooser is None else [chooser]),
        stopping_criteria=criteria,
    )
    generated = output[:, inputs["input_ids"].shape[1] :].tolist()
    if chooser is None:
        clock.step()
    ended = []
    for index, ids in enumerate(generated):
        length, reason = find_end(ids, strategy.eos_token_ids, partial(stops.found, index))
        times = clock.times(None if chooser is None else length, len(requests))
        ended.append((ids[:length], reason, times))
    return ended


def find_end(
    generated: Sequence[int], eos_token_ids: Sequence[int], stops: Callable[[Sequence[int]], bool]
) -> tuple[int, FinishReason]:
    """Return how many of a row's generated ids belong to the sample, and what ended it.

    Args:
        generated: the row's ids, with whatever padding `generate` put after its end.
        eos_token_ids: ids that end a sample; the id itself still belongs to it.
        stops: returns whether the text of ids contains a stop string.
    """
    length, reason = len(generated), "length"
    for position, token in enumerate(generated):
        if token in eos_token_ids:
            length, reason = position + 1, "eos"
            break
    if stops(generated[:length]):
        # Text only grows with its ids, so the shortest prefix that contains it can be bisected.
        low, high = 1, length
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if stops(generated[:middle]) else (middle + 1, high)
        if low < length or reason != "eos":
            length, reason = low, "stop_string"
    return length, reason  # type: ignore[return-value]
