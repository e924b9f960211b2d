"""Which of two quantizations is the more precise one: what drift is told against."""

from __future__ import annotations

from harness.config.point import Quantization
from harness.models.locate import ModelFiles
from harness.models.prequantized import Stored

Precision = tuple[int, int]
"""Bits of a stored weight, and of its significand: sorts from coarse to fine."""

_FLOATS: dict[str, Precision] = {"float32": (32, 24), "float16": (16, 11), "bfloat16": (16, 8)}


def precision(quantization: Quantization, files: ModelFiles) -> Precision:
    """How finely a checkpoint's weights are held.

    The dtype `checkpoint` counts as what it is; a checkpoint that is stored quantized as its own bits.
    """
    if quantization.load_in_4bit:
        return 4, 4
    if quantization.load_in_8bit:
        return 8, 8
    if quantization.torchao is not None:
        bits = 4 if "int4" in quantization.torchao else 8
        return bits, bits
    if files.stored is not None:
        return _stored_bits(files.stored)
    if quantization.dtype != "checkpoint":
        return _FLOATS[quantization.dtype]
    return checkpoint_precision(files)


def checkpoint_precision(files: ModelFiles) -> Precision:
    """How finely the weights are stored; float32 where that is not said, which is what is loaded then."""
    if files.stored is not None:
        return _stored_bits(files.stored)
    return _FLOATS.get(files.checkpoint_dtype or "float32", _FLOATS["float32"])


def _stored_bits(stored: Stored) -> Precision:
    """Of a checkpoint that was quantized before it was stored; 4 bits where it does not say."""
    bits = stored.bits or 4
    return bits, bits
