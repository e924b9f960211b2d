"""The precision of quantizations, by which the reference of drift is chosen."""

from __future__ import annotations

from harness.config.point import Quantization
from harness.models.locate import ModelFiles
from harness.models.prequantized import StoredQuantization

Precision = tuple[int, int]
"""Bits of a stored weight, and of its significand; sorts from low to high precision."""

_FLOATS: dict[str, Precision] = {"float32": (32, 24), "float16": (16, 11), "bfloat16": (16, 8)}


def precision(quantization: Quantization, files: ModelFiles) -> Precision:
    """Return the precision of a checkpoint's weights under a quantization.

    The dtype `checkpoint` counts as the dtype of the files; an already quantized checkpoint by its bits.
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
    """Return the precision of the stored weights; float32 where it is unknown, as they are loaded then."""
    if files.stored is not None:
        return _stored_bits(files.stored)
    return _FLOATS.get(files.checkpoint_dtype or "float32", _FLOATS["float32"])


def _stored_bits(stored: StoredQuantization) -> Precision:
    """Return the precision of an already quantized checkpoint; 4 bits where that is unknown."""
    bits = stored.bits or 4
    return bits, bits
