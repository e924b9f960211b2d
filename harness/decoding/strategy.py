"""One strategy as the engine runs it: explicit decoding, budget, luck and what ends a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig

from harness.config.effective import effective_decoding
from harness.config.point import Decoding
from harness.decoding.processors import strategy_config


@dataclass(frozen=True)
class Strategy:
    """A point's decoding on one loaded model.

    Attributes:
        effective: every GenerationConfig field, explicit.
        max_new_tokens: budget of a sample.
        seed: what its luck is made from.
        stop_strings: texts that end a sample.
        eos_token_ids: ids that end a sample; empty to go on past end-of-text.
        pad_token_id: fills the left of a ragged batch.
        top_k: alternatives recorded a step.
        cache: `cache_config` of a quantized cache; None for the model's own.
    """

    effective: Mapping[str, Any]
    max_new_tokens: int
    seed: int
    stop_strings: tuple[str, ...]
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    top_k: int
    cache: Mapping[str, Any] | None = None

    @property
    def beams(self) -> int:
        """Rows that one sample needs."""
        return self.effective["num_beams"]

    @property
    def draws(self) -> bool:
        """Whether luck plays a part."""
        return self.effective["do_sample"]

    def config(self) -> GenerationConfig:
        """A fresh GenerationConfig of this strategy (generate writes into the one it is given)."""
        return self._config(self.effective)

    def neutral_config(self) -> GenerationConfig:
        """The same budget and ends with nothing that changes the logits."""
        return self._config(effective_decoding(Decoding(name="neutral")))

    def _config(self, effective: Mapping[str, Any]) -> GenerationConfig:
        return strategy_config(
            effective,
            max_new_tokens=self.max_new_tokens,
            eos_token_ids=self.eos_token_ids,
            pad_token_id=self.pad_token_id,
            cache=self.cache,
        )
