"""One decoding strategy as a backend runs it: explicit fields, budget, seed and what ends a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Strategy:
    """A point's decoding on one model.

    Attributes:
        effective: every GenerationConfig field that matters, explicit (`config/effective.py`).
        max_new_tokens: budget of a sample.
        seed: of the shared Gumbel noise.
        stop_strings: texts that end a sample.
        eos_token_ids: ids that end a sample; empty to continue past end-of-text.
        pad_token_id: fills the left of a ragged batch.
        top_k: alternatives recorded a step.
        cache: `cache_config` of a quantized key-value cache; None for the model's own.
        chat_eos_token_ids: further ids that end a sample of a chat prompt.
        samples: of each prompt.
    """

    effective: Mapping[str, Any]
    max_new_tokens: int
    seed: int
    stop_strings: tuple[str, ...]
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    top_k: int
    cache: Mapping[str, Any] | None = None
    chat_eos_token_ids: tuple[int, ...] = ()
    samples: int = 1

    @cached_property
    def for_chat(self) -> Strategy:
        """The strategy as requests of chat prompts carry it, with all that ends them in `eos_token_ids`."""
        if not self.chat_eos_token_ids:
            return self
        every = (*self.eos_token_ids, *self.chat_eos_token_ids)
        return replace(self, eos_token_ids=every, chat_eos_token_ids=())

    @property
    def branches(self) -> bool:
        """Whether each sample begins with another one of the likeliest tokens."""
        return self.effective.get("cot_branches") is not None

    @property
    def do_sample(self) -> bool:
        """Whether tokens are drawn at random."""
        return self.effective["do_sample"]
