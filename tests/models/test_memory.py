"""Memory estimates, compared with loaded models and filled caches."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from small_models import CONTEXT, WINDOW

from harness.cli.doctor import TRIED
from harness.config.point import Model
from harness.models.load import footprint_bytes, load
from harness.models.locate import locate
from harness.models.memory import (
    available_bytes,
    kv_cache_bytes,
    peak_memory_mb,
    weight_bytes,
)

FP32 = next(one for one in TRIED if one.name == "fp32")


@pytest.mark.parametrize("quantization", TRIED, ids=lambda quantization: quantization.name)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_weights_are_estimated_to_two_percent(small_model: Any, kind: str, quantization: Any) -> None:
    if quantization.torchao is not None and (kind == "gpt2" or find_spec("torchao") is None):
        pytest.skip("torchao does not support gpt2, or is not installed")
    loaded = load(Model(name="m", id=str(small_model(kind))), quantization)
    real = footprint_bytes(loaded.model)
    assert loaded.facts["memory_footprint_mb"] * 2**20 == real
    assert weight_bytes(loaded.files, quantization) == pytest.approx(real, rel=0.02)


def cache_bytes(cache: Any) -> int:
    return sum(
        tensor.numel() * tensor.element_size()
        for layer in cache.layers
        for tensor in (layer.keys, layer.values)
    )


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
@pytest.mark.parametrize("tokens", [1, WINDOW - 1, WINDOW, 60])
def test_the_cache_is_estimated_exactly(small_model: Any, kind: str, tokens: int) -> None:
    import torch

    from harness.backends.hf.forward import forward

    loaded = load(Model(name="m", id=str(small_model(kind))), FP32)
    with torch.inference_mode():
        ids = torch.arange(tokens)[None] + 10
        _, cache = forward(loaded.model, ids, torch.ones_like(ids), None)
    assert kv_cache_bytes(loaded.files.text_config, tokens, 4) == cache_bytes(cache)


def test_large_shapes_by_hand() -> None:
    # Mistral 7B v0.1: 32 layers, 8 KV heads of 128; 2 * 32 * 8 * 128 * 2 bytes = 128 KiB a token.
    mistral = {
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
        "sliding_window": 4096,
    }  # fmt: skip
    assert kv_cache_bytes(mistral, 1, 2) == 128 * 1024
    assert kv_cache_bytes(mistral, 10_000, 2) == 4095 * 128 * 1024
    # GPT-2: 12 layers of 768, no grouped heads.
    assert kv_cache_bytes({"n_layer": 12, "n_head": 12, "n_embd": 768}, 1, 4) == 2 * 12 * 768 * 4
    qwen = {**mistral, "use_sliding_window": False}
    assert kv_cache_bytes(qwen, 10_000, 2) == 10_000 * 128 * 1024
    mixed = {**mistral, "num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}
    assert kv_cache_bytes(mixed, 10_000, 2) == (10_000 + 4095) * 4 * 1024
    assert kv_cache_bytes({"num_hidden_layers": 4}, 10, 2) == 0


def test_nothing_is_estimated_without_headers(small_model: Any) -> None:
    files = locate(Model(name="m", id=str(small_model("llama", pickle=True)), allow_pickle=True))
    assert weight_bytes(files, FP32) is None


def test_peak_and_free_memory_are_plausible() -> None:
    peak, free = peak_memory_mb("cpu"), available_bytes("cpu")
    assert peak is not None
    assert 50 < peak < 100_000
    assert free is None or free > 2**20
    assert CONTEXT > WINDOW
