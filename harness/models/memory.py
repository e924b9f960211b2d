"""Memory of a model: estimated from config.json and safetensors headers, or measured as a peak."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.point import Quantization
from harness.models.device import gpu_bytes, slurm_memory
from harness.models.model_files import ModelFiles
from harness.models.prequantized import UNPACKED, StoredQuantization
from harness.models.torchao import quantized_bytes
from harness.models.weights import Tensor, quantizable

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
WORKERS_ON_DEVICE = "HARNESS_WORKERS_ON_DEVICE"
"""The environment variable that tells a worker how many share its device, and so its memory."""
_MIB = 1024 * 1024
_HEADS = ("num_attention_heads", "n_head", "num_heads")
_BLOCK_4BIT = 64  # values that share a scale
_BLOCK_SCALES = 256  # scales that share a scale, with double quantization
_BOOK_4BIT = 16 * 4  # bytes of a code book, one per layer
_BOOK_8BIT = 256 * 4 + 4  # bytes of the scales' code book and their offset


def resolve_dtype(quantization: Quantization, files: ModelFiles) -> str:
    """Return the dtype of what is not quantized: as configured, else the checkpoint's, else float32."""
    dtype = files.checkpoint_dtype if quantization.dtype == "checkpoint" else quantization.dtype
    return dtype if dtype in BYTES else "float32"


def weight_bytes(files: ModelFiles, quantization: Quantization) -> int | None:
    """Return the bytes of the weights once loaded; None when the headers are not available.

    bitsandbytes quantizes the linear layers except the head: 4 bits per value and a float32 scale per 64
    values (with double quantization an 8-bit scale, and a float32 per 256 scales), or 8 bits per value and a
    float32 per row. torchao quantizes the same layers (`torchao.quantized_bytes`).
    """
    if not files.tensors:
        return None
    value_bytes = BYTES[resolve_dtype(quantization, files)]
    if files.stored is not None:
        return sum(_stored_bytes(tensor, files.stored, value_bytes) for tensor in files.tensors)
    return sum(_loaded_bytes(tensor, quantization, value_bytes) for tensor in files.tensors)


def kv_cache_bytes(config: Mapping[str, Any], tokens: int, value_bytes: int) -> int:
    """Return the bytes of the key-value cache of one sequence of `tokens` positions.

    Args:
        config: config.json of the language model: Llama, Qwen2, Mistral, GPT-2 or another with their keys.
        tokens: positions in the cache.
        value_bytes: bytes per value, 2 in half precision.

    Returns:
        0 when config.json lacks the shapes.
    """
    windows = _windows(config, _number(config, "num_hidden_layers", "n_layer", "num_layers"))
    positions = sum(tokens if window is None else min(tokens, window - 1) for window in windows)
    return 2 * positions * key_value_heads(config) * head_dim(config) * value_bytes


def attention_heads(config: Mapping[str, Any]) -> int:
    """Return the number of attention heads; 0 when config.json does not have it."""
    return _number(config, *_HEADS)


def key_value_heads(config: Mapping[str, Any]) -> int:
    """Return the number of key-value heads; 0 when config.json does not have it."""
    return _number(config, "num_key_value_heads", *_HEADS)


def head_dim(config: Mapping[str, Any]) -> int:
    """Return the dimension of a head; 0 when config.json does not have it."""
    heads, hidden = _number(config, *_HEADS), _number(config, "hidden_size", "n_embd", "d_model")
    return _number(config, "head_dim") or (hidden // heads if heads else 0)


def has_full_attention(config: Mapping[str, Any]) -> bool:
    """Return whether every layer has full attention."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return all(kind == "full_attention" for kind in kinds)
    return _windows(config, 1) == [None]


def reset_peak_memory(device: str) -> None:
    """Reset the peak memory of the GPU, or of this process where the kernel allows it (Linux)."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.init()  # the allocator has no such device before
        torch.cuda.reset_peak_memory_stats(device)
        return
    # proc(5): 5 resets the high-water mark. Elsewhere the peak is that of the whole process.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb(device: str) -> float | None:
    """Return the peak memory since `reset_peak_memory` in MiB: allocated on the GPU, else resident."""
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
    """Return the memory that can still be allocated; on a GPU including what torch's allocator has cached.

    Where torch is not imported yet, the total memory of the GPU. A worker that shares the device with others
    (WORKERS_ON_DEVICE) takes its share.
    """
    return _available_bytes(device) // int(os.environ.get(WORKERS_ON_DEVICE) or 1)


def _available_bytes(device: str) -> int:
    if device.startswith("cuda"):
        if "torch" not in sys.modules:
            return gpu_bytes(device)
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    available = int(psutil.virtual_memory().available)
    limit = slurm_memory()
    return available if limit is None else max(0, min(available, limit - psutil.Process().memory_info().rss))


def _loaded_bytes(tensor: Tensor, quantization: Quantization, value_bytes: int) -> int:
    """Return the bytes of one tensor once loaded."""
    linear = quantizable(tensor, quantization.llm_int8_skip_modules or ())
    if linear and quantization.torchao is not None:
        return quantized_bytes(tensor, quantization, value_bytes)
    if linear and quantization.load_in_8bit and not quantization.llm_int8_has_fp16_weight:
        return tensor.numel + 4 * tensor.shape[0]
    if linear and quantization.load_in_4bit:
        scales = -(-tensor.numel // _BLOCK_4BIT)
        if not quantization.bnb_4bit_use_double_quant:
            return tensor.numel // 2 + 4 * scales + _BOOK_4BIT
        return tensor.numel // 2 + scales + 4 * -(-scales // _BLOCK_SCALES) + _BOOK_4BIT + _BOOK_8BIT
    return tensor.numel * value_bytes


def _stored_bytes(tensor: Tensor, stored: StoredQuantization, value_bytes: int) -> int:
    """Return the bytes of one tensor of an already quantized checkpoint, once loaded."""
    if stored.method not in UNPACKED:
        return tensor.nbytes
    # Eight bits are one value of fp8, or two of mxfp4.
    if tensor.dtype.startswith("F8"):
        return tensor.numel * value_bytes
    return 2 * tensor.numel * value_bytes if tensor.name.endswith("_blocks") else tensor.nbytes


def _windows(config: Mapping[str, Any], layers: int) -> list[int | None]:
    """Return the sliding window of each layer, None where it has full attention."""
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
    """Return a size for people, in KiB, MiB or GiB."""
    if size < _MIB:
        return f"{size / 1024:.0f} KiB"
    return f"{size / _MIB:,.1f} MiB" if size < 1024 * _MIB else f"{size / _MIB / 1024:,.2f} GiB"
