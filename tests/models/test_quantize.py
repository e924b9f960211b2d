"""Quantized models compute with the weights that bitsandbytes' functions unpack, in the configured dtype."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from harness.cli.doctor import TRIED
from harness.config.point import Model, Quantization
from harness.errors import ConfigError
from harness.models import quantize
from harness.models.load import load
from harness.models.quantize import (
    bitsandbytes_config,
    check_quantization,
    compute_dtype,
    import_bitsandbytes,
)

FP32 = Quantization(name="fp32", dtype="float32")
CHOICES = {quantization.name: quantization for quantization in TRIED}
FOUR_BITS = ["bnb_nf4", "bnb_nf4_double", "bnb_fp4"]


def logits(model: Any) -> Any:
    import torch

    ids = torch.randint(10, 300, (2, 24), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return model(ids).logits.double()


def kl(reference: Any, other: Any) -> float:
    import torch

    p, q = torch.log_softmax(reference, -1), torch.log_softmax(other, -1)
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("name", FOUR_BITS)
def test_four_bits_compute_what_unpacking_by_hand_does(small_model: Any, kind: str, name: str) -> None:
    import torch

    model = Model(name="m", id=str(small_model(kind)))
    quantized, plain = load(model, CHOICES[name]), load(model, FP32)
    bitsandbytes = import_bitsandbytes()
    layers = dict(plain.model.named_modules())
    changed = 0
    for path, module in quantized.model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            values = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            weight = layers[path].weight
            # GPT-2's Conv1D keeps its matrix the other way round.
            values = values.T if type(layers[path]).__name__ == "Conv1D" else values
            assert values.shape == weight.shape
            assert 0 < float((values - weight).abs().max()) < float(weight.abs().max()) / 2
            with torch.no_grad():
                weight.copy_(values)
            changed += 1
    assert changed == quantized.facts["quantized_modules"] > 0
    first = logits(quantized.model)
    assert float((first - logits(plain.model)).abs().max()) < 1e-3
    # bitsandbytes repacks weights at the first forward where it may; the second must be the same.
    assert torch.equal(first, logits(quantized.model))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
@pytest.mark.parametrize(
    ("name", "near"), [("bf16", 0.05), ("fp16", 0.01), ("bnb_int8", 0.1), ("bnb_nf4", 1.0)]
)
def test_every_precision_stays_near_fp32(small_model: Any, kind: str, name: str, near: float) -> None:
    import torch

    model = Model(name="m", id=str(small_model(kind)))
    reference = logits(load(model, FP32).model)
    found = logits(load(model, CHOICES[name]).model)
    assert bool(torch.isfinite(found).all())
    assert 0 < kl(reference, found) < near


def test_packed_layout_is_used_only_for_bfloat16(small_model: Any) -> None:
    import torch

    model = Model(name="m", id=str(small_model("llama")))
    bfloat16 = Quantization(
        name="q", load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16"
    )
    half, full = load(model, bfloat16), load(model, CHOICES["bnb_nf4"])
    assert (half.facts["compute_dtype"], full.facts["compute_dtype"]) == ("bfloat16", "float32")
    difference = float((logits(half.model) - logits(full.model)).abs().max())
    assert difference > 1e-3
    assert kl(logits(full.model), logits(half.model)) < 0.05
    layer = full.model.model.layers[0].self_attn.q_proj
    assert layer.weight.quant_state.absmax.dtype == torch.float32


def test_skipped_modules_stay_plain(small_model: Any) -> None:
    model = Model(name="m", id=str(small_model("llama")))
    skipping = CHOICES["bnb_nf4"].model_copy(update={"llm_int8_skip_modules": ("lm_head", "down_proj")})
    assert (
        load(model, skipping).facts["quantized_modules"]
        == load(model, CHOICES["bnb_nf4"]).facts["quantized_modules"] - 2
    )


def test_the_bitsandbytes_config_has_the_configured_values() -> None:
    import torch

    assert bitsandbytes_config(FP32, "cpu") is None
    config = bitsandbytes_config(CHOICES["bnb_nf4_double"], "cpu")
    assert config is not None
    assert (config.load_in_4bit, config.load_in_8bit) == (True, False)
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.float32
    eight = bitsandbytes_config(CHOICES["bnb_int8"].model_copy(update={"llm_int8_threshold": 3.0}), "cpu")
    assert eight is not None
    assert (eight.load_in_8bit, eight.llm_int8_threshold) == (True, 3.0)


def test_compute_dtype_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    nf4 = CHOICES["bnb_nf4"]
    for has, wanted in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(quantize, "_has_bfloat16", lambda device, has=has: has)
        assert compute_dtype(nf4, "cuda:0") == wanted
        assert compute_dtype(nf4, "cpu") == "float32"
    assert compute_dtype(nf4.model_copy(update={"bnb_4bit_compute_dtype": "float16"}), "cpu") == "float16"


def test_refusals_name_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(quantization: Quantization, device: str) -> str:
        with pytest.raises(ConfigError) as caught:
            check_quantization(quantization, device)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    for quantization in TRIED:
        if quantization.torchao is None:
            check_quantization(quantization, "cpu")
    monkeypatch.setattr(import_bitsandbytes(), "supported_torch_devices", {"cpu", "cuda"})
    assert refusal(CHOICES["bnb_nf4"], "mps") == (
        "quantization: bnb_nf4 cannot run on mps: bitsandbytes runs on cpu, cuda; "
        "use one of none, fp32, bf16, fp16"
    )
    monkeypatch.setattr(quantize, "_has_bfloat16", lambda device: False)
    assert refusal(CHOICES["bf16"], "mps") == "quantization: bf16: mps has no bfloat16; use one of fp32, fp16"

    def broken() -> Any:
        raise ImportError("libfoo.so is missing\nmore")

    monkeypatch.setattr(quantize, "import_bitsandbytes", broken)
    assert "cannot be imported (libfoo.so is missing)" in refusal(CHOICES["bnb_int8"], "cpu")


def test_importing_bitsandbytes_fetches_no_kernels_from_the_hub() -> None:
    import subprocess

    program = """
import sys, types
kernels = types.ModuleType("kernels")
kernels.get_kernel = lambda *a, **k: print("QUERIED THE HUB")
sys.modules["kernels"] = kernels
from harness.models.quantize import import_bitsandbytes
print(import_bitsandbytes().__name__, sys.modules["kernels"] is kernels)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "bitsandbytes True"
    assert "Failed to load" not in result.stderr
