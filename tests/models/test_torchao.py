"""torchao computes the product with weights unpacked by hand; what it cannot quantize is refused beforehand.

What needs the package is skipped where it is not installed: pip install 'decoding-harness[torchao]'.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest

from harness.cli.doctor import TRIED
from harness.config.point import Model, Quantization
from harness.errors import ConfigError
from harness.models import packages
from harness.models.load import load
from harness.models.locate import locate
from harness.models.quantize import check_quantization
from harness.models.torchao import group_size, import_torchao, torchao_problem
from harness.models.weights import Tensor

# In float32, so that nothing but the quantization is rounded.
CHOICES = {one.name: one.model_copy(update={"dtype": "float32"}) for one in TRIED if one.torchao}
FP32 = Quantization(name="fp32", dtype="float32")
here = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")


def symmetric(values: Any, most: int) -> tuple[Any, Any]:
    """Whole steps from -most - 1 to most, and the size of a step, for each row of float64 values.

    A step is what brings the largest to the middle of the range: most + 0.5 of them.
    """
    import torch

    step = values.abs().amax(-1, keepdim=True) / (most + 0.5)
    return torch.clamp(torch.round(values / step), -most - 1, most), step


def asymmetric(values: Any, levels: int) -> tuple[Any, Any, Any]:
    """Whole steps from 0, their size, and the least value (no more than zero), for each row."""
    import torch

    low = values.amin(-1, keepdim=True)
    step = (values.amax(-1, keepdim=True) - low) / (levels - 1)
    return torch.clamp(torch.round((values - low) / step), 0, levels - 1), step, low


def weight_by_hand(stored: Any, weight: Any, quantization: Quantization) -> Any:
    """The float64 values that a weight is stored as, each checked to be the step nearest to the original."""
    import torch

    groups = weight.double().reshape(-1, group_size(quantization) or weight.shape[1])
    if quantization.torchao == "int4_weight_only":  # packed for the processor, so computed again
        steps, step, low = asymmetric(groups, 16)
        return (steps * step + low).reshape(weight.shape)
    most = 7 if "int4" in str(quantization.torchao) else 127
    _, step = symmetric(groups, most)
    steps = stored.qdata.double().reshape(groups.shape)
    torch.testing.assert_close(stored.scale.double().reshape(-1, 1), step, rtol=1e-6, atol=0)
    assert -most - 1 <= float(steps.min()) < float(steps.max()) <= most
    assert float((steps - groups / step).abs().max()) < 0.5 + 1e-4
    return (steps * step).reshape(weight.shape)


def inputs_by_hand(inputs: Any, quantization: Quantization) -> Any:
    """The float64 values that a layer's inputs are rounded to, token by token."""
    import torch

    if quantization.torchao == "int8_dynamic_activation_int8_weight":
        steps, step = symmetric(inputs, 127)
        return steps * step
    if quantization.torchao == "int8_dynamic_activation_int4_weight":
        # Zero is one of the steps, so the range holds it.
        low, high = inputs.amin(-1, keepdim=True).clamp(max=0), inputs.amax(-1, keepdim=True).clamp(min=0)
        step = (high - low) / 255
        zero = torch.clamp(-128 - torch.round(low / step), -128, 127)
        return (torch.clamp(torch.round(inputs / step) + zero, -128, 127) - zero) * step
    return inputs


@here
@pytest.mark.parametrize("name", CHOICES)
def test_a_layer_is_the_product_with_its_unpacked_weight(small_model: Any, name: str) -> None:
    import torch

    model = Model(name="m", id=str(small_model("llama")))
    plain, quantized = load(model, FP32), load(model, CHOICES[name])
    layers = dict(plain.model.named_modules())
    asked, checked = CHOICES[name], 0
    for path, module in quantized.model.named_modules():
        if type(getattr(module, "weight", None)).__module__.startswith("torchao"):
            values = layers[path].weight
            weight = weight_by_hand(module.weight, values, asked)
            assert 0 < float((weight - values).abs().max()) < float(values.abs().max()) / 8
            inputs = torch.randn(5, values.shape[1], generator=torch.Generator().manual_seed(checked))
            with torch.inference_mode():
                found = module(inputs).double()
            wanted = inputs_by_hand(inputs.double(), asked) @ weight.T
            off = (found - wanted).abs()
            # An input on the border of two steps may fall on either side: one step of it, times its weight.
            step = float(inputs.abs().max() * values.abs().max()) / 127 if "dynamic" in name else 1e-5
            assert float(off.median()) < 1e-5
            assert float(off.max()) < step
            checked += 1
    assert checked == quantized.facts["quantized_modules"] == 14, "seven in each of two layers, not the head"


@here
@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_every_choice_stays_near_fp32(small_model: Any, kind: str, name: str) -> None:
    import torch

    model = Model(name="m", id=str(small_model(kind)))
    ids = torch.randint(10, 300, (2, 24), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        p, q = (load(model, how).model(ids).logits.double().log_softmax(-1) for how in (FP32, CHOICES[name]))
    assert 0 < float((p.exp() * (p - q)).sum(-1).mean()) < (0.02 if "int8" in name else 1.0)


@here
def test_rows_do_not_depend_on_the_rest_of_the_batch(small_model: Any) -> None:
    import torch

    ids = torch.randint(10, 300, (3, 12), generator=torch.Generator().manual_seed(4))
    for quantization in CHOICES.values():
        model = load(Model(name="m", id=str(small_model("llama"))), quantization).model
        with torch.inference_mode():
            together = model(ids).logits
            alone = torch.cat([model(row[None]).logits for row in ids])
        torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)


@here
def test_precision_of_other_products_is_left_alone(small_model: Any) -> None:
    import torch

    for quantization in CHOICES.values():
        load(Model(name="m", id=str(small_model("llama"))), quantization)
    assert torch.get_float32_matmul_precision() == "highest"


@here
def test_importing_it_prints_nothing() -> None:
    import subprocess
    import sys

    program = "from harness.models.torchao import import_torchao; import_torchao(); import torchao"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


def refusal(quantization: Quantization, device: str = "cpu", files: Any = None) -> str:
    with pytest.raises(ConfigError) as caught:
        check_quantization(quantization, device, files)
    (line,) = str(caught.value).splitlines()
    return line.removeprefix(f"quantization: {quantization.name} cannot run here: ")


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    for quantization in CHOICES.values():
        assert refusal(quantization) == (
            "torchao is not installed: pip install 'decoding-harness[torchao]'; or use one of fp32, "
            "bf16, fp16, bnb_int8, bnb_nf4, bnb_fp4"
        )
    import_torchao()  # nothing to do, and no error


def test_what_it_would_silently_skip_is_refused(monkeypatch: pytest.MonkeyPatch, small_model: Any) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: object())
    four = CHOICES["torchao_int4_weight_only"]
    wide = four.model_copy(update={"group_size": 256})
    llama = locate(Model(name="m", id=str(small_model("llama"))))
    for quantization in CHOICES.values():
        check_quantization(quantization, "cpu", llama)
        assert refusal(quantization, "mps").startswith(
            "torchao runs on cpu and cuda, and this is mps; use one of"
        )
    assert refusal(wide) == "on cpu quantization.group_size must be 32, 64 or 128"
    unset = four.model_copy(update={"group_size": None})
    assert "group_size=128 does not divide the 64 inputs of model.layers.0." in refusal(unset, files=llama)
    assert refusal(unset, files=llama).endswith("; use quantization.group_size=64")
    odd = replace(llama, tensors=(Tensor("layers.0.k_proj.weight", "F32", (8, 64)),))
    assert refusal(four, files=odd) == (
        "on cpu the outputs must be a multiple of 16, and layers.0.k_proj.weight has 8; "
        "use torchao_int4_dynamic"
    )
    check_quantization(CHOICES["torchao_int4_dynamic"], "cpu", odd)
    narrow = replace(llama, tensors=(Tensor("layers.0.k_proj.weight", "F32", (16, 24)),))
    assert refusal(four, files=narrow).endswith("; use torchao_int8_weight_only")
    check_quantization(CHOICES["torchao_int8_weight_only"], "cpu", narrow)
    gpt2 = locate(Model(name="m", id=str(small_model("gpt2"))))
    assert "gpt2 has its matrices as Conv1D" in refusal(CHOICES["torchao_int8_dynamic"], files=gpt2)
    assert "add quantization.dtype=bfloat16" in refusal(four, "cuda:0", llama)
    half = four.model_copy(update={"dtype": "bfloat16"})
    assert torchao_problem(half, "cuda:0", llama) is None


@here
def test_a_model_without_linear_layers_is_told_at_the_load(
    monkeypatch: pytest.MonkeyPatch, small_model: Any
) -> None:
    from harness.models import torchao

    monkeypatch.setattr(torchao, "_WITHOUT_LINEAR", ())
    with pytest.raises(ConfigError, match=r"finds no linear layer in .*; use bnb_nf4"):
        load(Model(name="m", id=str(small_model("gpt2"))), CHOICES["torchao_int8_weight_only"])
