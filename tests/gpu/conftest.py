"""Tests on a CUDA device; skipped where there is none.

`HARNESS_GPU_TESTS_ON=cpu python -m pytest tests/gpu` runs what makes sense there on the CPU, to check the
tests themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark and skip; torch is imported only when tests of this folder were collected."""
    own = [item for item in items if HERE in item.path.parents]
    if not own:
        return
    import torch

    available = torch.cuda.is_available()
    on_cpu = os.environ.get("HARNESS_GPU_TESTS_ON") == "cpu"
    for item in own:
        item.add_marker(pytest.mark.gpu)
        if not available and (not on_cpu or item.get_closest_marker("only_cuda")):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def device() -> str:
    return os.environ.get("HARNESS_GPU_TESTS_ON", "cuda")


@pytest.fixture(scope="session")
def on_device(small_model: Any, device: str) -> Callable[..., Any]:
    """`on_device("llama", Quantization(...))`: a small model as the backend gets it, in fp32 by default."""
    from transformers import GenerationConfig

    from harness.config.point import Model, Quantization
    from harness.models.load import load

    @cache
    def loaded(kind: str, quantization: Quantization | None = None) -> Any:
        wanted = quantization or Quantization(name="fp32", dtype="float32")
        model = load(Model(name=kind, id=str(small_model(kind)), device=device), wanted, None)
        model.model.generation_config = GenerationConfig()
        return model

    return loaded


@pytest.fixture(scope="session")
def requests_of() -> Callable[..., Any]:
    """`requests_of(loaded, strategy)`: requests of different lengths, `samples` of each prompt."""
    from harness.backends.backend import Request
    from harness.decoding.strategy import Strategy
    from harness.prompts.prompt import Prompt

    texts = (
        "It was a dark and stormy",
        "A list of colors: red, blue, green, yellow, purple, orange and white.",
        "Portugal is",
    )

    def requests(loaded: Any, strategy: Strategy, samples: int = 1) -> list[Request]:
        prompts = [
            Prompt(id=f"p{index}", text=text, ids=tuple(loaded.tokenizer(text)["input_ids"]))
            for index, text in enumerate(texts)
        ]
        return [Request(prompt, sample, strategy) for prompt in prompts for sample in range(samples)]

    return requests


@pytest.fixture(scope="session")
def strategy_of() -> Callable[..., Any]:
    """`strategy_of(loaded, do_sample=True, top_p=0.9)`: 16 tokens, five alternatives recorded."""
    from harness.config.decoding import Decoding
    from harness.config.effective import effective_decoding
    from harness.decoding.strategy import Strategy

    def strategy(loaded: Any, **fields: Any) -> Strategy:
        return Strategy(
            effective=effective_decoding(Decoding(name="x", **fields)),
            max_new_tokens=16,
            seed=0,
            stop_strings=(),
            eos_token_ids=(loaded.tokenizer.eos_token_id,),
            pad_token_id=loaded.tokenizer.pad_token_id,
            top_k=5,
        )

    return strategy
