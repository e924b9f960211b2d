"""A quantized cache: its config, its size, and when it cannot be used."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest

from harness.cli.doctor import TRIED, TRIED_CACHES
from harness.config.point import Cache, Model
from harness.errors import ConfigError
from harness.models import caches, packages
from harness.models.caches import cache_config, check_cache, has_fp8_cache, quantized_cache_bytes
from harness.models.load import load
from harness.models.locate import locate
from harness.models.memory import kv_cache_bytes
from harness.models.model_files import ModelFiles

FP32 = next(one for one in TRIED if one.name == "fp32")

CACHES = {cache.name: cache for cache in TRIED_CACHES}
INT4 = CACHES["quantized_int4"]


@pytest.fixture
def llama(small_model: Any, monkeypatch: pytest.MonkeyPatch) -> ModelFiles:
    """Two layers, two key-value heads of 16; hqq as if it were installed."""
    monkeypatch.setattr(packages, "find_spec", lambda name: object())
    return locate(Model(name="m", id=str(small_model("llama"))))


def with_config(files: ModelFiles, **changes: Any) -> ModelFiles:
    return replace(files, config={**files.config, **changes})


def refusal(cache: Cache, files: ModelFiles, device: str = "cpu") -> str:
    with pytest.raises(ConfigError) as caught:
        check_cache(cache, device, files)
    (line,) = str(caught.value).splitlines()
    return line


def test_the_cache_config_has_the_configured_values(llama: ModelFiles) -> None:
    assert cache_config(Cache(name="default"), llama) is None
    assert cache_config(CACHES["quantized_fp8"], llama) == {"backend": "fp8"}
    common = {"backend": "hqq", "axis_key": 1, "axis_value": 1, "residual_length": 128}
    assert cache_config(INT4, llama) == {**common, "nbits": 4, "q_group_size": 16}
    small = INT4.model_copy(update={"q_group_size": 8, "residual_length": 4})
    assert cache_config(small, llama) == {**common, "nbits": 4, "q_group_size": 8, "residual_length": 4}


def test_groups_divide_a_head_and_fill_bytes(llama: ModelFiles) -> None:
    def group(cache: str, **changes: Any) -> Any:
        found = cache_config(CACHES[cache], with_config(llama, **changes))
        return found and found["q_group_size"]

    assert group("quantized_int4", head_dim=128) == 64
    assert group("quantized_int4", head_dim=32, num_key_value_heads=2) == 32
    # One head of 32 holds an odd number of groups of 32 at an odd length: two share a byte.
    assert group("quantized_int4", head_dim=32, num_key_value_heads=1) == 16
    assert group("quantized_int8", head_dim=32, num_key_value_heads=1) == 32
    assert group("quantized_int2", head_dim=64, num_key_value_heads=1) == 16
    assert group("quantized_int4", head_dim=80, num_key_value_heads=1) == 8


def test_unsupported_caches_are_refused(
    llama: ModelFiles, small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "has_fp8_cache", lambda: True)
    for cache in CACHES.values():
        check_cache(cache, "cpu", llama)
        check_cache(cache, "cuda:0", llama)
        assert "runs on cpu and cuda, and this is mps; use cache=default" in refusal(cache, llama, "mps")
        mistral = locate(Model(name="m", id=str(small_model("mistral"))))
        assert "full attention only; use cache=default" in refusal(cache, mistral)
        assert "full attention only" in refusal(
            cache, with_config(llama, layer_types=["linear_attention"] * 2)
        )
    check_cache(INT4, "cpu", with_config(llama, layer_types=["full_attention"] * 2, sliding_window=8))
    for size in (3, 32):
        cache = INT4.model_copy(update={"q_group_size": size})
        assert refusal(cache, llama) == (
            f"cache.q_group_size={size}: must divide the head dimension of 16, and the groups of 2 heads "
            "must fill whole bytes at 4 bits; use 16"
        )
    odd = with_config(llama, head_dim=20, num_key_value_heads=1)
    assert "use cache=quantized_int8 or cache=quantized_fp8" in refusal(INT4, odd)
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert refusal(INT4, llama) == (
        "cache.backend=hqq: hqq is not installed: pip install 'decoding-harness[hqq]'; or use "
        "cache=quantized_fp8, which needs no package"
    )
    check_cache(CACHES["quantized_fp8"], "cpu", llama)
    monkeypatch.setattr(caches, "has_fp8_cache", lambda: False)
    assert refusal(CACHES["quantized_fp8"], llama).endswith(
        "does not have it; use cache=default, or a newer transformers"
    )


def allocated_bytes(cache: Any) -> int:
    """Return the bytes of the tensors in a filled QuantizedCache."""
    found: list[Any] = []
    for layer in cache.layers:
        found += [layer.keys, layer.values]
        for states in (layer._quantized_keys, layer._quantized_values):
            packed, more = states
            # hqq has scales and zero points by name; fp8 one scale, a number.
            found += [packed, *((more["scale"], more["zero"]) if isinstance(more, dict) else ())]
    return sum(tensor.numel() * tensor.element_size() for tensor in found)


@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("steps", [0, 7, 20])
def test_the_cache_is_estimated_from_above(small_model: Any, name: str, steps: int) -> None:
    import torch
    from transformers.cache_utils import QuantizedCache

    from harness.backends.hf.forward import forward

    if name == "quantized_fp8" and not has_fp8_cache():
        pytest.skip("this transformers has no fp8 cache")

    if CACHES[name].backend == "hqq" and find_spec("hqq") is None:
        pytest.skip("hqq is not installed")
    loaded = load(Model(name="m", id=str(small_model("llama"))), FP32)
    config = CACHES[name]
    if config.backend == "hqq":
        config = config.model_copy(update={"residual_length": 16})
    settings = cache_config(config, loaded.files)
    assert settings is not None
    cache = QuantizedCache(config=loaded.model.config, **settings)
    with torch.inference_mode():
        for length in range(33, 34 + steps):
            ids = torch.full((1, 33 if length == 33 else 1), 20)
            _, cache = forward(loaded.model, ids, torch.ones((1, length), dtype=torch.long), cache)
    tokens = 33 + steps
    estimate = quantized_cache_bytes(loaded.files.text_config, tokens, 4, settings)
    plain = kv_cache_bytes(loaded.files.text_config, min(tokens, 15) if config.backend == "hqq" else 0, 4)
    assert estimate - plain <= allocated_bytes(cache) + plain
    assert allocated_bytes(cache) <= estimate
    if steps == 0:  # nothing is left plain after the prefill
        assert allocated_bytes(cache) == estimate - plain


@pytest.mark.skipif(find_spec("hqq") is None, reason="hqq is not installed")
def test_the_quantization_error_is_that_of_the_bits(small_model: Any) -> None:
    import torch
    from transformers.cache_utils import QuantizedCache

    from harness.backends.hf.forward import forward

    loaded = load(Model(name="m", id=str(small_model("llama"))), FP32)
    ids = torch.randint(10, 300, (1, 41), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        _, plain = forward(loaded.model, ids, torch.ones_like(ids), None)
        off = []
        for name, bits in (("quantized_int8", 8), ("quantized_int4", 4), ("quantized_int2", 2)):
            settings = cache_config(CACHES[name], loaded.files)
            assert settings is not None
            cache = QuantizedCache(config=loaded.model.config, **settings)
            forward(loaded.model, ids, torch.ones_like(ids), cache)
            for quantized, exact in zip(cache.layers, plain.layers, strict=True):
                for states, wanted in (
                    (quantized._quantized_keys, exact.keys),
                    (quantized._quantized_values, exact.values),
                ):
                    groups = wanted.reshape(-1, settings["q_group_size"])
                    step = (groups.amax(-1) - groups.amin(-1)) / (2**bits - 1)
                    error = (quantized._dequantize(states) - wanted).reshape(groups.shape)
                    # Half a step at most, but for hqq's moving of the zero points.
                    assert bool((error.abs().amax(-1) < 1.2 * step + 1e-6).all())
            off.append(float(error.square().mean().sqrt() / wanted.square().mean().sqrt()))
    # Sixteen times the steps, then four times with groups of half the size.
    assert 0 < 8 * off[0] < off[1] < off[2] / 2
