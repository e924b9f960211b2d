"""A strategy as transformers' GenerationConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig

from harness.config.effective import effective_decoding
from harness.config.point import Decoding
from harness.decoding.strategy import Strategy


def generation_config(strategy: Strategy) -> GenerationConfig:
    """Return a fresh GenerationConfig of a strategy (`generate` writes into the one it is given)."""
    return _config(strategy, strategy.effective)


def neutral_generation_config(strategy: Strategy) -> GenerationConfig:
    """Return one with the same budget, end tokens and cache, and nothing that changes the logits."""
    return _config(strategy, effective_decoding(Decoding(name="neutral")))


def _config(strategy: Strategy, effective: Mapping[str, Any]) -> GenerationConfig:
    cache = {}
    if strategy.cache is not None:
        cache = {"cache_implementation": "quantized", "cache_config": dict(strategy.cache)}
    return GenerationConfig(
        **effective,
        max_new_tokens=strategy.max_new_tokens,
        eos_token_id=list(strategy.eos_token_ids) or None,
        pad_token_id=strategy.pad_token_id,
        **cache,
    )
