"""Loaded small models, and prompts of different lengths to decode with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.config.point import Model, Quantization

TEXTS = (
    "It was a dark and stormy",
    "A list of colors: red, blue, green, yellow, purple, orange and white.",
    "Portugal is",
    "The science lecture began with a story about a river",
    "Once upon a time there",
)


@pytest.fixture(scope="session")
def loaded_model(small_model: Any) -> Callable[..., Any]:
    """`loaded_model("llama", bos=False)`: a LoadedModel on the CPU in fp32, as the backend gets it.

    Small random ones by their architecture, and `fable_small` and `fable_tiny`.
    """
    from transformers import GenerationConfig

    from harness.models.fable import FABLE_MODELS
    from harness.models.load import load

    @cache
    def loaded(kind: str, dtype: str = "float32", **habits: Any) -> Any:
        folder = kind if kind in FABLE_MODELS else small_model(kind, **habits)
        model = load(
            Model(name=kind, id=str(folder), device="cpu"), Quantization(name=dtype, dtype=dtype), None
        )
        model.model.generation_config = GenerationConfig()
        return model

    return loaded


@pytest.fixture(scope="session")
def prompts_of() -> Callable[..., Any]:
    """`prompts_of(loaded)`: TEXTS as prompts for a loaded model."""
    from harness.prompts.prompt import Prompt

    def prompts(loaded: Any, texts: tuple[str, ...] = TEXTS) -> list[Prompt]:
        return [
            Prompt(id=f"p{index}", text=text, ids=tuple(loaded.tokenizer(text)["input_ids"]))
            for index, text in enumerate(texts)
        ]

    return prompts


@pytest.fixture(scope="session")
def strategy_of() -> Callable[..., Any]:
    """`strategy_of(loaded, do_sample=True, top_p=0.9, max_new_tokens=8)`."""
    from harness.decoding.strategy import Strategy

    def strategy(loaded: Any, *, ends: bool = True, **fields: Any) -> Strategy:
        budget = fields.pop("max_new_tokens", 20)
        stops = fields.pop("stop_strings", ())
        seed = fields.pop("seed", 0)
        top_k = fields.pop("record_top_k", 5)
        return Strategy(
            effective=effective_decoding(Decoding(name="x", **fields)),
            max_new_tokens=budget,
            seed=seed,
            stop_strings=tuple(stops),
            eos_token_ids=(loaded.tokenizer.eos_token_id,) if ends else (),
            pad_token_id=loaded.tokenizer.pad_token_id,
            top_k=top_k,
        )

    return strategy
