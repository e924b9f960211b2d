"""The logits processor of vLLM's first model runner: it is told how rows move."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.v1.sample.logits_processor.interface import BatchUpdate, LogitsProcessor

from harness.backends.vllm.elsewhere import ChosenElsewhere
from harness.backends.vllm.kept_token import ARGUMENT, current
from harness.backends.vllm.row_numbers import RowNumbers


class ProcessorV1(LogitsProcessor):
    """Leaves one token of each row."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._numbers: RowNumbers[int] = RowNumbers()
        self._elsewhere = ChosenElsewhere(str(device))

    def is_argmax_invariant(self) -> bool:
        """Return False: it decides which token is the likeliest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the rows."""
        if batch_update is None:
            return
        added = []
        for row, params, _, tokens in batch_update.added:
            number = (params.extra_args or {}).get(ARGUMENT)
            if number is not None and current() is None:
                self._elsewhere.begin(number, params, tokens)
            added.append((row, number))
        self._numbers.update(batch_update.removed, added, batch_update.moved)

    def apply(self, logits: Tensor) -> Tensor:
        """Leave one token of each row."""
        here = current()
        chosen = here or self._elsewhere.chosen
        if chosen is None:
            return logits
        kept = chosen.keep(self._numbers.of(len(logits)), logits)
        if here is None and chosen.error is not None:
            raise chosen.error  # nobody else would hear of it in this process
        return kept
