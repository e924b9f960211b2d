"""The logits processor of vLLM's second model runner, whose requests have slots that do not change.

Not tested: it needs Triton, on a GPU. It is used only where `VLLM_USE_V2_MODEL_RUNNER=1` asks for it; what
the self-test at load and `Chooser.settle` compare would show rows that are mistaken.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor

from harness.backends.vllm.kept_token import ARGUMENT, current


class ProcessorV2(LogitsProcessor):
    """Leaves one token of each row."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        self._in_slot: dict[int, int] = {}

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Note the request of a slot, whose last one has left."""
        number = (sampling_params.extra_args or {}).get(ARGUMENT)
        self._in_slot.pop(req_idx, None)
        if number is not None:
            self._in_slot[req_idx] = number
        return number is not None

    def apply(self, logits: Tensor, ctx: Any) -> Tensor:
        """Leave one token of each row."""
        chosen = current()
        if chosen is None:
            return logits
        # Without speculative decoding, which refuses processors, each request of the step has one row.
        numbers = [self._in_slot.get(int(slot)) for slot in ctx.idx_mapping_np[: len(logits)]]
        return chosen.keep(numbers, logits)
