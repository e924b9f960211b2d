"""A strategy as transformers' GenerationConfig."""

from __future__ import annotations

from transformers import GenerationConfig

from harness.decoding.strategy import Strategy


def generation_config(strategy: Strategy, *, use_cache: bool = True) -> GenerationConfig:
    """Return a fresh GenerationConfig of a strategy (`generate` writes into the one it is given)."""
    cache = {}
    if strategy.cache is not None:
        cache = {"cache_implementation": "quantized", "cache_config": dict(strategy.cache)}
    return GenerationConfig(
        **{**strategy.effective, "use_cache": use_cache},
        max_new_tokens=strategy.max_new_tokens,
        eos_token_id=list(strategy.eos_token_ids) or None,
        pad_token_id=strategy.pad_token_id,
        **cache,
    )
