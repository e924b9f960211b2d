"""What a model takes: estimated from config.json and safetensors headers, or measured as a peak."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.point import Quantization
from harness.models.device import gpu_bytes
from harness.models.locate import ModelFiles
from harness.models.prequantized import UNPACKED, Stored
from harness.models.torchao import weight_bytes_of
from harness.models.weights import Tensor, quantizable

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_MIB = 1024 * 1024
_BLOCK_4BIT = 64  # values that share a scale
_BLOCK_SCALES = 256  # scales that share a scale, with double quantization
_BOOK_4BIT = 16 * 4  # bytes of a code book, one a layer
_BOOK_8BIT = 256 * 4 + 4  # of the scales' own, and their offset


def weight_bytes(files: ModelFiles, quantization: Quantization) -> int | None:
    """Bytes that the weights will take once loaded; None when the headers are not to be had.

    bitsandbytes quantizes the linear layers but for the head: 4 bits a value and a float32 scale for 64
    values (an 8-bit scale, and a float32 for 256 of those, when doubled), or 8 bits and a float32 a row.
    torchao takes the same layers (`torchao.weight_bytes_of`).
    """
    if not files.tensors:
        return None
    plain = BYTES.get(files.checkpoint_dtype or "float32", 4)
    if quantization.dtype != "checkpoint":
        plain = BYTES[quantization.dtype]
    if files.stored is not None:
        return sum(_stored_bytes(tensor, files.stored, plain) for tensor in files.tensors)
    return sum(_held_bytes(tensor, quantization, plain) for tensor in files.tensors)


def kv_cache_bytes(config: Mapping[str, Any], tokens: int, value_bytes: int) -> int:
    """Bytes of the key-value cache of one row of `tokens` positions.

    Args:
        config: config.json (the text part), of Llama, Qwen2, Mistral, GPT-2 or another with their keys.
        tokens: positions held.
        value_bytes: bytes a value, 2 in half precision.
    """
    layers = _number(config, "num_hidden_layers", "n_layer", "num_layers")
    heads = _number(config, "num_attention_heads", "n_head", "num_heads")
    width = _number(config, "hidden_size", "n_embd", "d_model")
    if not layers or not heads or not width:
        return 0
    windows = _windows(config, layers)
    positions = sum(tokens if window is None else min(tokens, window - 1) for window in windows)
    return 2 * positions * key_value_heads(config) * head_width(config) * value_bytes


def key_value_heads(config: Mapping[str, Any]) -> int:
    """How many heads have keys and values of their own; 0 when config.json does not say."""
    return _number(config, "num_key_value_heads") or _number(
        config, "num_attention_heads", "n_head", "num_heads"
    )


def head_width(config: Mapping[str, Any]) -> int:
    """Values of a head's key; 0 when config.json does not say."""
    heads = _number(config, "num_attention_heads", "n_head", "num_heads")
    width = _number(config, "hidden_size", "n_embd", "d_model")
    return _number(config, "head_dim") or (width // heads if heads else 0)


def sees_everything(config: Mapping[str, Any]) -> bool:
    """Whether every layer attends to the whole text."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and any(kind != "full_attention" for kind in kinds):
        return False
    return all(
        window is None for window in _windows(config, 1 if not isinstance(kinds, list) else len(kinds))
    )


def reset_peak_memory(device: str) -> None:
    """Count the peak from here: of the GPU, or of this process where the kernel can forget it (Linux)."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    # proc(5): 5 resets the high-water mark. Elsewhere the peak stays that of the process ever.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb(device: str) -> float | None:
    """The most memory held since `reset_peak_memory`, MiB: allocated on the GPU, else resident here."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / _MIB
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        if mark := re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE):
            return int(mark[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


def available_bytes(device: str) -> int:
    """Memory that can still be taken: of the GPU, what torch's allocator holds unused included.

    Where torch is not loaded yet, a GPU's whole memory.
    """
    if device.startswith("cuda"):
        if "torch" not in sys.modules:
            return gpu_bytes(device)
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.virtual_memory().available)


def _held_bytes(tensor: Tensor, quantization: Quantization, plain: int) -> int:
    """Bytes of one tensor once loaded."""
    linear = quantizable(tensor, quantization.llm_int8_skip_modules or ())
    if linear and quantization.torchao is not None:
        return weight_bytes_of(tensor, quantization, plain)
    if linear and quantization.load_in_8bit and not quantization.llm_int8_has_fp16_weight:
        return tensor.numel + 4 * tensor.shape[0]
    if linear and quantization.load_in_4bit:
        scales = -(-tensor.numel // _BLOCK_4BIT)
        if not quantization.bnb_4bit_use_double_quant:
            return tensor.numel // 2 + 4 * scales + _BOOK_4BIT
        return tensor.numel // 2 + scales + 4 * -(-scales // _BLOCK_SCALES) + _BOOK_4BIT + _BOOK_8BIT
    return tensor.numel * plain


def _stored_bytes(tensor: Tensor, stored: Stored, plain: int) -> int:
    """Bytes of one tensor of a checkpoint that is stored quantized, once loaded."""
    if stored.method not in UNPACKED:
        return tensor.nbytes
    # Eight bits hold a value of fp8, or two of mxfp4.
    if tensor.dtype.startswith("F8"):
        return tensor.numel * plain
    return 2 * tensor.numel * plain if tensor.name.endswith("_blocks") else tensor.nbytes


def _windows(config: Mapping[str, Any], layers: int) -> list[int | None]:
    """The sliding window of each layer, None where it sees everything."""
    window = config.get("sliding_window")
    if not isinstance(window, int) or config.get("use_sliding_window") is False:
        return [None] * layers
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == layers:
        return [window if kind == "sliding_attention" else None for kind in kinds]
    return [window] * layers


def _number(config: Mapping[str, Any], *keys: str) -> int:
    found = (config.get(key) for key in keys)
    return next((value for value in found if isinstance(value, int)), 0)


def format_bytes(size: float) -> str:
    """Bytes for people: KiB, MiB or GiB."""
    if size < _MIB:
        return f"{size / 1024:.0f} KiB"
    return f"{size / _MIB:,.1f} MiB" if size < 1024 * _MIB else f"{size / _MIB / 1024:,.2f} GiB"
