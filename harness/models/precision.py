"""The precision of quantizations, by which the reference of drift is chosen."""

from __future__ import annotations

from harness.config.point import Quantization
from harness.models.model_files import ModelFiles

Precision = tuple[int, int]
"""Bits of a stored weight, and of its significand; sorts from low to high precision."""

_FLOATS: dict[str, Precision] = {"float32": (32, 24), "float16": (16, 11), "bfloat16": (16, 8)}


def precision(quantization: Quantization, files: ModelFiles) -> Precision:
    """Return the precision of a checkpoint's weights under a quantization."""
    if quantization.load_in_4bit:
        return 4, 4
    if quantization.load_in_8bit or quantization.exported == "int8":
        return 8, 8
    if quantization.torchao is not None:
        bits = 4 if "int4" in quantization.torchao else 8
        return bits, bits
    if files.stored is None and quantization.dtype != "checkpoint":
        return _FLOATS[quantization.dtype]
    if files.gguf is not None:  # dequantized
        return _FLOATS[files.checkpoint_dtype or "float32"]
    return checkpoint_precision(files)


def checkpoint_precision(files: ModelFiles) -> Precision:
    """Return the precision of the stored weights.

    Where it is unknown: float32, as they are loaded then, or 4 bits of an already quantized checkpoint.
    """
    if files.stored is not None:
        bits = files.stored.bits or 4
        return bits, bits
    if files.gguf is not None and files.gguf.quantized:
        return int(files.gguf.bits), int(files.gguf.bits)
    return _FLOATS.get(files.checkpoint_dtype or "", _FLOATS["float32"])
