"""A batch for stock `generate`: prompts padded on the left, and what ends its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import StoppingCriteria

from harness.backends.hf.clock import Clock
from harness.decoding.detokenizer import Detokenizer
from harness.store.records import FinishReason


def pad_left(sequences: Sequence[Sequence[int]], pad_token_id: int, device: str) -> dict[str, Tensor]:
    """Return `input_ids` and `attention_mask`, both (R, longest), padding on the left and masked out."""
    width = max(len(ids) for ids in sequences)
    ids = torch.full((len(sequences), width), pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


class StopStrings(StoppingCriteria):
    """Ends a row once its output contains one of `stop_strings`."""

    def __init__(
        self, detokenizer: Detokenizer, prompts: Sequence[Sequence[int]], stop_strings: Sequence[str]
    ):
        """`prompts` are the unpadded ids of the batch; with beams, each has several adjacent rows."""
        self._detokenizer = detokenizer
        self._prompts = prompts
        self._width = max(len(ids) for ids in prompts)
        self._stop_strings = tuple(stop_strings)

    def found(self, prompt: int, generated: Sequence[int]) -> bool:
        """Return whether the output of a prompt (its index in the batch) contains a stop string."""
        if not self._stop_strings:
            return False
        output = self._detokenizer.output(self._prompts[prompt], generated)
        return any(stop in output for stop in self._stop_strings)

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        """Return (R,) bool: rows that are done."""
        generated = input_ids[:, self._width :].tolist()
        rows_per_prompt = len(generated) // len(self._prompts)
        done = [self.found(row // rows_per_prompt, ids) for row, ids in enumerate(generated)]
        return torch.tensor(done, device=input_ids.device)


class StepCallback(StoppingCriteria):
    """Records the time of each step, calls back with the number of rows, and never ends a row."""

    def __init__(
        self, clock: Clock, on_step: Callable[[int], None] | None, wait_for: int | None = None
    ) -> None:
        """
        Args:
            clock: records the steps.
            on_step: called with the number of rows.
            wait_for: steps whose time is read only once the device is done with them; None: all of them.
        """
        self._clock = clock
        self._on_step = on_step
        self._wait_for = wait_for
        self._steps = 0

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        """Return (R,) bool: no row is done."""
        self._steps += 1
        if self._wait_for is None or self._steps <= self._wait_for:
            # `generate` waits right after this, to learn whether a row is left: this takes no extra time.
            input_ids[0, -1].item()
        self._clock.step()
        if self._on_step is not None:
            self._on_step(input_ids.shape[0])
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


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
