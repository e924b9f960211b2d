"""Quantization on load: which ones a device can run, and bitsandbytes' config and peculiarities.

`torchao` is about torchao, `prequantized` about checkpoints that are already quantized.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from harness.config.point import Quantization
from harness.errors import ConfigError, first_line
from harness.models.device import is_here
from harness.models.model_files import ModelFiles
from harness.models.prequantized import METHODS, UNPACKED, StoredQuantization, stored_problem
from harness.models.torchao import is_torchao, plain_tensors, torchao_config, torchao_problem

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel

PLAIN = ("none", "fp32", "bf16", "fp16")
_PACKED_ROWS = 32  # bitsandbytes' packed CPU layout takes output features by 32


def uses_bitsandbytes(quantization: Quantization, stored: StoredQuantization | None = None) -> bool:
    """Return whether the weights are bitsandbytes': quantized on load, or stored by it."""
    on_load = quantization.load_in_8bit or quantization.load_in_4bit
    return on_load or (stored is not None and stored.method == "bitsandbytes")


def packages_of(
    quantization: Quantization, stored: StoredQuantization | None, *, gguf: bool = False
) -> tuple[str, ...]:
    """Return the distributions whose arithmetic the samples depend on, beside those of every point.

    `stored` is how the checkpoint is quantized already; `gguf` whether it is a GGUF file.
    """
    if gguf:
        return ("gguf",)
    if quantization.torchao is not None:
        return ("torchao",)
    modules = () if stored is None else METHODS.get(stored.method, ())
    return tuple(name.replace("_", "-") for name in modules)


def check_quantization(quantization: Quantization, device: str, files: ModelFiles | None = None) -> None:
    """Check that the device and the checkpoint can be run in a quantization.

    Raises:
        ConfigError: they cannot; with what can be used instead.
    """
    key, name = "quantization", quantization.name
    stored = None if files is None else files.stored
    if quantization.vllm is not None:
        raise ConfigError.of(key, f"{name} is vLLM's own; use backend=vllm, or quantization=bnb_nf4")
    if quantization.exported is not None:
        cure = "use backend=onnx or openvino, or quantization=torchao_int8_weight_only"
        raise ConfigError.of(key, f"{name} is of exported graphs; {cure}")
    if files is not None and stored is not None:
        already = f"already quantized ({stored})"
        if uses_bitsandbytes(quantization) or quantization.torchao is not None:
            problem = f"cannot be applied to {files.id}, which is {already}; use quantization=none"
            raise ConfigError.of(key, f"{name} {problem}")
        if reason := stored_problem(stored, device):
            raise ConfigError.of("model.id", f"{files.id} is {already}, {reason}")
    if (
        files is not None
        and files.gguf is not None
        and (uses_bitsandbytes(quantization) or quantization.torchao is not None)
    ):
        problem = (
            f"cannot be applied to {files.id}, a GGUF file ({files.gguf.type_name}); use one of "
            f"{', '.join(PLAIN)}, or the checkpoint that it was made from"
        )
        raise ConfigError.of(key, f"{name} {problem}")
    if quantization.torchao is not None and (reason := torchao_problem(quantization, device, files)):
        raise ConfigError.of(key, f"{name} cannot run here: {reason}")
    if uses_bitsandbytes(quantization, stored) and (reason := _bitsandbytes_problem(device)):
        problem = f"cannot run on {device}: {reason}; use one of {', '.join(PLAIN)}"
        raise ConfigError.of(key, f"{name} {problem}")
    if quantization.dtype == "bfloat16" and not _has_bfloat16(device):
        raise ConfigError.of(key, f"{name}: {device} has no bfloat16; use one of fp32, fp16")


def loading_config(quantization: Quantization, device: str, stored: StoredQuantization | None) -> Any:
    """Return the `quantization_config` for `from_pretrained`; None for what is loaded as it is stored.

    Checkpoints in fp8 or mxfp4 get one that unpacks them.
    """
    if stored is not None and stored.method in UNPACKED:
        from transformers.utils import quantization_config as kinds

        kind: Any = kinds.FineGrainedFP8Config if stored.method == "fp8" else kinds.Mxfp4Config
        return kind(dequantize=True)
    return bitsandbytes_config(quantization, device) or torchao_config(quantization, device)


def bitsandbytes_config(quantization: Quantization, device: str) -> BitsAndBytesConfig | None:
    """Return the BitsAndBytesConfig of a quantization, None where bitsandbytes is not used."""
    if not uses_bitsandbytes(quantization):
        return None
    import torch
    from transformers import BitsAndBytesConfig

    skip = quantization.llm_int8_skip_modules
    return BitsAndBytesConfig(
        load_in_8bit=quantization.load_in_8bit,
        load_in_4bit=quantization.load_in_4bit,
        llm_int8_threshold=quantization.llm_int8_threshold,
        llm_int8_skip_modules=None if skip is None else list(skip),
        llm_int8_has_fp16_weight=quantization.llm_int8_has_fp16_weight,
        bnb_4bit_compute_dtype=getattr(torch, compute_dtype(quantization, device)),
        bnb_4bit_quant_type=quantization.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=quantization.bnb_4bit_use_double_quant,
    )


def compute_dtype(quantization: Quantization, device: str) -> str:
    """Return the dtype that 4-bit weights are unpacked to for a product.

    As configured; else float32 on a CPU, where half precision is not faster, and on a GPU bfloat16 if it is
    supported, else float16.
    """
    if quantization.bnb_4bit_compute_dtype is not None:
        return quantization.bnb_4bit_compute_dtype
    if device == "cpu":
        return "float32"
    return "bfloat16" if _has_bfloat16(device) else "float16"


def import_bitsandbytes() -> Any:
    """Import bitsandbytes without letting it fetch anything.

    On CPUs with AVX512-BF16 it asks the `kernels` package, where that is installed, for a compiled kernel
    from the hub while it is imported. It works without, so `kernels` is hidden during the import.
    """
    if "bitsandbytes" not in sys.modules:
        # These log a line per matrix product: casts of int8, the kernel that was not fetched.
        for name in ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions"):
            logging.getLogger(name).setLevel(logging.ERROR)
        hidden = sys.modules.pop("kernels", None)
        sys.modules["kernels"] = None  # type: ignore[assignment]
        try:
            import bitsandbytes
        finally:
            del sys.modules["kernels"]
            if hidden is not None:
                sys.modules["kernels"] = hidden
    import bitsandbytes

    return bitsandbytes


def honour_compute_dtype(model: PreTrainedModel) -> None:
    """Make 4-bit layers on a CPU compute in the dtype that was configured.

    On CPUs with AVX512-BF16 bitsandbytes repacks 4-bit weights at the first forward and computes in
    bfloat16 with bfloat16 scales, whatever the compute dtype (and fails where the output features are not a
    multiple of 32). That layout is used only for layers that compute in bfloat16 and fit it.
    """
    import torch

    bitsandbytes = import_bitsandbytes()
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            blocksize = module.weight.quant_state.blocksize
            fits = module.out_features % _PACKED_ROWS == 0 and module.in_features % blocksize == 0
            if module.compute_dtype != torch.bfloat16 or not fits:
                module.support_avx512bf16_for_cpu = False


def quantized_modules(model: PreTrainedModel) -> int:
    """Return the number of modules with weights quantized by bitsandbytes or torchao."""
    kinds: tuple[type, ...] = ()
    if "bitsandbytes" in sys.modules:
        nn = sys.modules["bitsandbytes"].nn
        kinds = (nn.Linear4bit, nn.Linear8bitLt)
    return sum(
        isinstance(module, kinds) or is_torchao(getattr(module, "weight", None)) for module in model.modules()
    )


def weight_tensors(model: PreTrainedModel) -> list[torch.Tensor]:
    """Return every tensor of the weights, each once: parameters, buffers, scales and code books."""
    import torch

    found: list[Any] = [
        plain for tensor in (*model.parameters(), *model.buffers()) for plain in plain_tensors(tensor)
    ]
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if is_torchao(weight):
            continue
        for holder in (getattr(weight, "quant_state", None), weight, getattr(module, "state", None)):
            state = getattr(holder, "state2", None)
            for source in (holder, state):
                found += [getattr(source, name, None) for name in ("absmax", "code", "offset", "CB", "SCB")]
    tensors = [tensor for tensor in found if isinstance(tensor, torch.Tensor)]
    # What is offloaded has no address.
    unique = {(id(t) if t.is_meta else t.data_ptr(), t.numel()): t for t in tensors}
    return list(unique.values())


def _bitsandbytes_problem(device: str) -> str | None:
    """Return why bitsandbytes cannot be used on the device, None when it can.

    A plan imports nothing heavy: before torch is imported the kind of device decides, and what bitsandbytes
    says of itself when the model is loaded.
    """
    supported = {"cpu", "cuda"}
    if "torch" in sys.modules and is_here(device):
        try:
            supported = import_bitsandbytes().supported_torch_devices
        except Exception as error:  # a broken native library raises anything
            return f"bitsandbytes cannot be imported ({first_line(error)})"
    if device.partition(":")[0] in supported:
        return None
    return f"bitsandbytes runs on {', '.join(sorted(supported))}"


def _has_bfloat16(device: str) -> bool:
    """Return whether the device computes in bfloat16; assumed until torch is imported, and elsewhere."""
    if "torch" not in sys.modules or not is_here(device):
        return True
    import torch

    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported()
    if device == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return True
