"""torchao: which of its quantizations a device and a checkpoint can be run in, and their configs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.config.point import Quantization
from harness.models.packages import missing_packages
from harness.models.weights import Tensor, quantizable

if TYPE_CHECKING:
    from transformers import TorchAoConfig

    from harness.models.model_files import ModelFiles

_GROUP = {"int4_weight_only": 128, "int8_dynamic_activation_int4_weight": 32}  # torchao's defaults
_INT4_GROUPS_ON_CPU = (32, 64, 128)
_INT4_ROWS = 16  # aten's packing for CPUs takes output features by 16
# Their matrices are Conv1D, which torchao does not quantize.
_WITHOUT_LINEAR = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")


def group_size(quantization: Quantization) -> int | None:
    """Return the number of inputs that share a scale; None where a row does."""
    return quantization.group_size or _GROUP.get(quantization.torchao or "")


def torchao_problem(quantization: Quantization, device: str, files: ModelFiles | None) -> str | None:
    """Return why torchao cannot run this quantization, with the cure; None when it can.

    torchao silently skips what does not fit; here it is reported before anything is loaded.
    """
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        return f"torchao runs on cpu and cuda, and this is {device}; use one of none, fp32, bf16, fp16"
    if (missing := missing_packages(("torchao",), "torchao")) is not None:
        return f"{missing}; or use one of fp32, bf16, fp16, bnb_int8, bnb_nf4, bnb_fp4"
    four = quantization.torchao == "int4_weight_only"
    if four and kind == "cpu" and group_size(quantization) not in _INT4_GROUPS_ON_CPU:
        return "on cpu quantization.group_size must be 32, 64 or 128"
    if files is None:
        return None
    if files.model_type in _WITHOUT_LINEAR:
        return f"{files.model_type} has its matrices as Conv1D, which torchao does not quantize; use bnb_nf4"
    dtype = files.checkpoint_dtype if quantization.dtype == "checkpoint" else quantization.dtype
    if four and kind == "cuda" and dtype != "bfloat16":
        return (
            f"on cuda its kernel supports bfloat16 only, and this is {dtype}; add quantization.dtype=bfloat16"
        )
    for tensor in files.tensors:
        if quantizable(tensor) and (problem := _shape_problem(tensor, quantization, kind)) is not None:
            return problem
    return None


def _shape_problem(tensor: Tensor, quantization: Quantization, kind: str) -> str | None:
    """Return why the weight of a linear layer cannot be quantized, None when it can."""
    (rows, inputs), group = tensor.shape, group_size(quantization)
    if group is not None and inputs % group:
        divisors = [size for size in _INT4_GROUPS_ON_CPU if inputs % size == 0]
        cure = f"use quantization.group_size={divisors[-1]}" if divisors else "use torchao_int8_weight_only"
        return f"group_size={group} does not divide the {inputs} inputs of {tensor.name}; {cure}"
    if quantization.torchao == "int4_weight_only" and kind == "cpu" and rows % _INT4_ROWS:
        return (
            f"on cpu the outputs must be a multiple of {_INT4_ROWS}, and {tensor.name} has {rows}; "
            "use torchao_int4_dynamic"
        )
    return None


def quantized_bytes(tensor: Tensor, quantization: Quantization, value_bytes: int) -> int:
    """Return the bytes of a quantized weight: values, scales and zero points.

    `value_bytes` are the bytes per value of what is not quantized.
    """
    rows, inputs = tensor.shape
    groups = rows * -(-inputs // (group_size(quantization) or inputs))
    if quantization.torchao == "int4_weight_only":
        return tensor.numel // 2 + 2 * value_bytes * groups
    # The scale is float32 for 8 bits, in the dtype of the weights for 4; the zero point has 8 bits.
    return tensor.numel + groups * ((value_bytes if "int4" in str(quantization.torchao) else 4) + 1)


def torchao_config(quantization: Quantization, device: str) -> TorchAoConfig | None:
    """Return the TorchAoConfig of a quantization, None where torchao is not used.

    Inductor's settings are not changed: torchao would lower the precision of every float32 product.
    """
    if quantization.torchao is None:
        return None
    import_torchao()
    import torch
    from torchao.quantization import (
        Int4WeightOnlyConfig,
        Int8DynamicActivationInt8WeightConfig,
        Int8DynamicActivationIntxWeightConfig,
        Int8WeightOnlyConfig,
        PerGroup,
        PerRow,
    )
    from transformers import TorchAoConfig

    group = group_size(quantization)
    kind: Any
    if quantization.torchao == "int8_weight_only":
        kind = Int8WeightOnlyConfig(
            granularity=PerRow() if group is None else PerGroup(group), set_inductor_config=False
        )
    elif quantization.torchao == "int8_dynamic_activation_int8_weight":
        kind = Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    elif quantization.torchao == "int8_dynamic_activation_int4_weight":
        assert group is not None
        kind = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]
            weight_granularity=PerGroup(group),
        )
    elif device == "cpu":
        # In torchao 0.18 the packed format for CPUs is still separate from the others.
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        kind = PrototypeInt4WeightOnlyConfig(group_size=group, set_inductor_config=False)
    else:
        kind = Int4WeightOnlyConfig(
            group_size=group, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        )
    return TorchAoConfig(quant_type=kind)


def import_torchao() -> None:
    """Import torchao, where it is installed, without its log lines about kernels for other machines.

    transformers imports it as soon as any model is loaded, so this is called first, whatever the config.
    """
    if "torchao" in sys.modules or missing_packages(("torchao",), "") is not None:
        return
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import torchao  # noqa: F401
    from transformers.quantizers import auto  # noqa: F401  which imports more of it


def plain_tensors(tensor: Any) -> Iterator[Any]:
    """Yield the plain tensors that a tensor of torchao consists of; a plain tensor yields itself."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from plain_tensors(getattr(tensor, name))
    else:
        yield tensor


def is_torchao(tensor: Any) -> bool:
    """Return whether a weight is quantized by torchao."""
    return type(tensor).__module__.startswith("torchao.")
