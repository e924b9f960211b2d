"""Which of two quantizations is the more precise one: what drift is told against."""

from __future__ import annotations

from harness.config.point import Quantization
from harness.models.locate import ModelFiles

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
    if files.prequantized:
        bits = _stored_bits(files)
        return bits, bits
    if quantization.dtype != "checkpoint":
        return _FLOATS[quantization.dtype]
    return checkpoint_precision(files)


def checkpoint_precision(files: ModelFiles) -> Precision:
    """How finely the weights are stored; float32 where that is not said, which is what is loaded then."""
    if files.prequantized:
        bits = _stored_bits(files)
        return bits, bits
    return _FLOATS.get(files.checkpoint_dtype or "float32", _FLOATS["float32"])


def _stored_bits(files: ModelFiles) -> int:
    said = files.config.get("quantization_config")
    said = said if isinstance(said, dict) else {}
    for key in ("bits", "w_bit", "num_bits"):
        if isinstance(said.get(key), int):
            return int(said[key])
    return 8 if said.get("load_in_8bit") or "8" in str(said.get("quant_method")) else 4
