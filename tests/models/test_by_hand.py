"""What bitsandbytes computes on this CPU is the product with weights that are unpacked by hand, in float64.

Packed bytes, blocks of scales and code tables are read as their papers define them (QLoRA, arXiv 2305.14314;
8-bit blockwise quantization, arXiv 2110.02861; LLM.int8(), arXiv 2208.07339), with none of its functions.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from harness.cli.doctor import TRIED
from harness.config.point import Model
from harness.models.load import load
from harness.models.quantize import import_bitsandbytes

CHOICES = {quantization.name: quantization for quantization in TRIED}
FOUR_BITS = ("bnb_nf4", "bnb_nf4_double", "bnb_fp4")


def nf4_code() -> Any:
    """QLoRA, appendix E: quantiles of a normal, zero, eight above and seven below it, over the largest."""
    from scipy.stats import norm

    offset = 0.9677083
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    code = np.sort(np.concatenate([above, below, [0.0]]))
    return code / code.max()


def fp4_code() -> Any:
    """Sign, two bits of exponent, one of mantissa, over the largest; bitsandbytes' own subnormal of 1/192."""
    magnitudes = np.array([0, 1 / 16, 8, 12, 4, 6, 2, 3]) / 12
    return np.concatenate([magnitudes, -magnitudes])


def dynamic_code() -> Any:
    """The 256 values of dynamic 8-bit trees: decades of 1 to 64 midpoints from 0.1 to 1, both signs, 0, 1."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = np.linspace(0.1, 1, 2**exponent + 1)
        decade = 10.0 ** (exponent - 6) * (edges[:-1] + edges[1:]) / 2
        values += [*decade, *-decade]
    return np.sort(values)


def scales_by_hand(state: Any) -> Any:
    """The float64 scale of each block; where they are quantized themselves, unpacked first."""
    scales = state.absmax.numpy()
    if not state.nested:
        return scales.astype(np.float64)
    assert scales.dtype == np.uint8
    code = dynamic_code()
    np.testing.assert_allclose(state.state2.code.numpy(), code, atol=1e-7)
    outer = np.repeat(state.state2.absmax.double().numpy(), state.state2.blocksize)[: scales.size]
    return code[scales] * outer + float(state.offset)


def four_bits_by_hand(weight: Any, code: Any) -> Any:
    """(out, in) float64 values of a packed 4-bit weight."""
    state = weight.quant_state
    np.testing.assert_allclose(state.code.numpy(), code, atol=1e-7)
    packed = weight.data.numpy().reshape(-1).view(np.uint8)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)  # the first of two in the high bits
    scales = np.repeat(scales_by_hand(state), state.blocksize)[: codes.size]
    return (code[codes] * scales).reshape(state.shape)


def int8_by_hand(inputs: Any, codes: Any, scales: Any, threshold: float) -> Any:
    """LLM.int8() in float64: 8-bit products without the outlier columns, those columns apart.

    Inputs are rounded to float16 first, then by rows to 127 steps of their largest value that is no outlier.
    """
    half = inputs.astype(np.float16).astype(np.float64)
    outlier = (np.abs(half) >= threshold) & (threshold > 0)
    columns = outlier.any(axis=0)
    largest = np.abs(np.where(outlier, 0, half)).max(axis=1, keepdims=True)
    rounded = np.round(half * 127 / largest)
    rounded[:, columns] = 0
    weight = codes.astype(np.float64) * scales[:, None] / 127
    return rounded * largest / 127 @ weight.T + inputs[:, columns] @ weight[:, columns].T


def tables() -> dict[str, Any]:
    return {"bnb_nf4": nf4_code(), "bnb_nf4_double": nf4_code(), "bnb_fp4": fp4_code()}


@pytest.mark.parametrize("name", FOUR_BITS)
@pytest.mark.parametrize("shape", [(64, 128), (96, 64), (40, 192)])
def test_a_four_bit_layer_is_the_product_with_its_unpacked_weight(name: str, shape: tuple[int, int]) -> None:
    import torch

    nn = import_bitsandbytes().nn
    torch.manual_seed(1)
    plain = torch.nn.Linear(shape[1], shape[0])
    layer = nn.Linear4bit(
        *reversed(shape), compute_dtype=torch.float32, quant_type=CHOICES[name].bnb_4bit_quant_type,
        compress_statistics=CHOICES[name].bnb_4bit_use_double_quant,
    )  # fmt: skip
    layer.load_state_dict(plain.state_dict())
    layer.support_avx512bf16_for_cpu = False  # as the harness has it for float32
    layer = layer.to("cpu").eval().requires_grad_(False)
    weight = four_bits_by_hand(layer.weight, tables()[name])
    assert 0.05 < np.abs(weight - plain.weight.detach().numpy()).max() / np.abs(weight).max() < 0.3
    inputs = torch.randn(7, shape[1])
    wanted = inputs.double().numpy() @ weight.T + plain.bias.detach().double().numpy()
    for _ in range(2):  # bitsandbytes may repack at the first forward
        np.testing.assert_allclose(layer(inputs).numpy(), wanted, atol=2e-5)


@pytest.mark.parametrize("threshold", [6.0, 2.0, 0.0])
def test_an_int8_layer_is_llm_int8_by_hand(threshold: float) -> None:
    import torch

    nn = import_bitsandbytes().nn
    torch.manual_seed(2)
    plain = torch.nn.Linear(96, 64)
    layer = nn.Linear8bitLt(96, 64, has_fp16_weights=False, threshold=threshold)
    layer.load_state_dict(plain.state_dict())
    layer = layer.to("cpu").eval().requires_grad_(False)
    inputs = torch.randn(9, 96)
    inputs[3, 5], inputs[0, 17] = 20.0, -7.0
    found = layer(inputs)
    codes, scales = layer.state.CB.numpy(), layer.state.SCB.double().numpy()
    rows = plain.weight.detach().half().double().numpy()
    np.testing.assert_allclose(scales, np.abs(rows).max(axis=1), rtol=1e-6)
    steps = rows * 127 / np.abs(rows).max(axis=1, keepdims=True)
    assert np.abs(codes - steps).max() < 0.5 + 1e-4, "each value is at its nearest step"
    wanted = int8_by_hand(inputs.double().numpy(), codes, scales, threshold)
    np.testing.assert_allclose(found.numpy(), wanted + plain.bias.detach().double().numpy(), atol=2e-4)


@pytest.mark.parametrize("name", FOUR_BITS)
def test_four_bit_logits_of_fable_are_those_of_weights_unpacked_by_hand(name: str, one_thread: None) -> None:
    import torch

    from harness.config.point import Quantization

    fable = Model(name="fable_tiny", id="fable_tiny")
    quantized = load(fable, CHOICES[name].model_copy(update={"dtype": "float32"}))
    plain = load(fable, Quantization(name="fp32", dtype="float32"))
    layers = dict(plain.model.named_modules())
    changed = 0
    for path, module in quantized.model.named_modules():
        if isinstance(module, import_bitsandbytes().nn.Linear4bit):
            weight = four_bits_by_hand(module.weight, tables()[name])
            with torch.no_grad():
                layers[path].weight.copy_(torch.from_numpy(weight))
            changed += 1
    assert changed == quantized.facts["quantized_modules"] > 0
    ids = torch.randint(3, 200, (3, 30), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        wanted = plain.model.double()(ids).logits
        torch.testing.assert_close(quantized.model(ids).logits.double(), wanted, atol=2e-4, rtol=0)


@pytest.mark.parametrize("threshold", [6.0, 0.5])
def test_int8_layers_of_fable_compute_llm_int8(threshold: float, one_thread: None) -> None:
    """Each layer on the very inputs it gets: what is rounded before would differ in the whole model."""
    import torch

    asked = CHOICES["bnb_int8"].model_copy(update={"dtype": "float32", "llm_int8_threshold": threshold})
    loaded = load(Model(name="fable_tiny", id="fable_tiny"), asked)
    seen: list[tuple[Any, Any, Any]] = []

    def note(module: Any, inputs: Any, output: Any) -> None:
        seen.append((module, inputs[0].reshape(-1, inputs[0].shape[-1]), output))

    for module in loaded.model.modules():
        if isinstance(module, import_bitsandbytes().nn.Linear8bitLt):
            module.register_forward_hook(note)
    ids = torch.randint(3, 200, (2, 12), generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        loaded.model(ids)
    assert len(seen) == loaded.facts["quantized_modules"] > 0
    for module, inputs, output in seen:
        codes, scales = module.state.CB.numpy(), module.state.SCB.double().numpy()
        wanted = int8_by_hand(inputs.double().numpy(), codes, scales, threshold)
        found = output.reshape(len(wanted), -1).numpy()
        # A value on the border of two steps may fall on either side in float32: one step of one input.
        step = np.abs(inputs.numpy()).max() / 127 * scales.max()
        assert np.abs(found - wanted).max() < step
        assert np.median(np.abs(found - wanted)) < 1e-5 * max(1.0, np.abs(wanted).max())


def test_no_kernel_is_fetched_unasked() -> None:
    """A package `kernels` that is installed, and the network, are left alone by loading and generating."""
    program = """
import importlib.machinery, socket, sys, types

def refused(*args, **kwargs):
    raise AssertionError("THE NETWORK WAS ASKED")

socket.create_connection = socket.getaddrinfo = socket.socket.connect = refused
kernels = types.ModuleType("kernels")
kernels.__spec__ = importlib.machinery.ModuleSpec("kernels", None)
kernels.get_kernel = refused
sys.modules["kernels"] = kernels

from harness.cli.main import main
from harness.config.point import Model
from harness.cli.doctor import TRIED
from harness.models.load import load

for quantization in TRIED:
    if quantization.name in sys.argv[1:]:
        loaded = load(Model(name="fable_tiny", id="fable_tiny"), quantization)
        ids = loaded.tokenizer("It was a dark", return_tensors="pt")
        loaded.model.generate(**ids, max_new_tokens=3, do_sample=False)
        print(quantization.name)
"""
    names = [name for name in CHOICES if name.startswith("bnb_")]
    result = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == names, result.stderr
    assert "ASKED" not in result.stderr
    assert "Failed to load" not in result.stderr
