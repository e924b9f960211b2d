"""What vLLM's logits processors do to the logits: of each row of ours one token is left, chosen here.

vLLM makes its processors itself, so what they choose with is set from outside: `choosing` while the engine
runs in this process. In another process, where vLLM shares a model between GPUs, a processor chooses with
`Chosen` of its own, and records nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from harness.backends.vllm.chooser import Chooser

ARGUMENT = "harness"
"""The key of `SamplingParams.extra_args` under which a request has its number."""


class Chosen:
    """Keeps the chosen token of each row, until choosing fails: then any, and `error` says why."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.error: Exception | None = None

    def keep(self, numbers: Sequence[int | None], logits: Tensor) -> Tensor:
        """Leave one token of each row of (R, V) logits that has a number; changes them in place.

        An exception in the middle of a step would leave the engine unusable, so it is only noted.
        """
        rows = [row for row, number in enumerate(numbers) if number is not None]
        if not rows:
            return logits
        own = [number for number in numbers if number is not None]
        index = torch.tensor(rows, device=logits.device)
        tokens = torch.zeros_like(index)
        if self.error is None:
            try:
                tokens = self.chooser.choose(own, logits if len(rows) == len(logits) else logits[index])
            except Exception as error:
                self.error = error
        logits[index] = float("-inf")
        logits[index, tokens] = 0.0
        return logits


_current: list[Chosen] = []


def current() -> Chosen | None:
    """Return what processors in this process choose with now."""
    return _current[-1] if _current else None


@contextmanager
def choosing(chosen: Chosen) -> Iterator[None]:
    """Let processors in this process choose with this one."""
    _current.append(chosen)
    try:
        yield
    finally:
        _current.pop()
