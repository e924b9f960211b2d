"""Checkpoints that are already quantized, according to their config.json, unlike quantizing on load."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.models.packages import missing_packages


@dataclass(frozen=True)
class StoredQuantization:
    """How a checkpoint is quantized.

    Attributes:
        method: `quant_method` as transformers names it: gptq, awq, bitsandbytes, compressed-tensors, ...
        bits: per weight; None where unknown.
        group_size: weights that share a scale; None where a row or a tensor does, or where unknown.
        compute_dtype: the dtype that bitsandbytes unpacks 4-bit weights to.
    """

    method: str
    bits: int | None = None
    group_size: int | None = None
    compute_dtype: str | None = None

    def __str__(self) -> str:
        bits = "" if self.bits is None else f", {self.bits} bits"
        return self.method + bits + ("" if self.group_size is None else f", groups of {self.group_size}")


# Unpacked to the configured dtype when loaded: their kernels would be fetched from the hub.
UNPACKED = ("fp8", "mxfp4")
METHODS: dict[str, tuple[str, ...]] = {
    "bitsandbytes": (),
    "torchao": ("torchao",),
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
    "compressed-tensors": ("compressed_tensors",),
    "fp8": (),
    "mxfp4": (),
}
"""Optional modules that transformers needs to load a method; the extra that has them is named after it."""


def stored_quantization(config: Mapping[str, Any]) -> StoredQuantization | None:
    """Read `quantization_config` of a config.json; None for a checkpoint that is not quantized."""
    found = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(found, Mapping):
        return None
    method = str(found.get("quant_method", "unknown"))
    if found.get("load_in_8bit") or found.get("load_in_4bit"):
        # Old checkpoints of bitsandbytes do not name the method.
        eight = bool(found.get("load_in_8bit"))
        dtype = None if eight else str(found.get("bnb_4bit_compute_dtype") or "float32")
        return StoredQuantization("bitsandbytes", 8 if eight else 4, None, dtype)
    bits, group = _first(found, "bits", "w_bit", "nbits"), _first(found, "group_size", "q_group_size")
    if method == "compressed-tensors":
        groups = (_object(one).get("weights") for one in _object(found.get("config_groups")).values())
        weights = next((one for one in groups if one and isinstance(one, Mapping)), {})
        bits, group = _first(weights, "num_bits"), _first(weights, "group_size")
    elif method == "torchao":
        bits, group = _torchao_bits_and_group(found)
    elif method in UNPACKED:
        bits = {"fp8": 8, "mxfp4": 4}[method]
    return StoredQuantization(method, bits, group if group and group > 0 else None)


def stored_problem(stored: StoredQuantization, device: str) -> str | None:
    """Return why an already quantized checkpoint cannot be run on a device, None when it can."""
    if stored.method not in METHODS:
        return f"which is not supported; supported are {', '.join(METHODS)}"
    if device.partition(":")[0] not in ("cuda", "cpu"):
        return f"which runs on cuda and cpu, and this is {device}; set model.device"
    modules = METHODS[stored.method]
    missing = missing_packages(modules, stored.method)
    return None if missing is None else f"which needs {' and '.join(modules)}; {missing}"


def stored_note(name: str, stored: StoredQuantization) -> str:
    """Return the warning about an already quantized checkpoint, in one line."""
    unpacked = "; its weights are unpacked when loaded" if stored.method in UNPACKED else ""
    return f"{name}: the checkpoint is already quantized ({stored}) and runs as it is{unpacked}"


def _first(found: Mapping[str, Any], *keys: str) -> int | None:
    values = (found.get(key) for key in keys)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _torchao_bits_and_group(found: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return bits and group size of torchao, whose configs name the bits (Int4WeightOnlyConfig)."""
    kind = found.get("quant_type")
    default = kind.get("default") if isinstance(kind, Mapping) else None
    if not isinstance(default, Mapping):
        return None, None
    name, data = str(default.get("_type", "")).lower(), default.get("_data")
    bits = re.search(r"(\d)weight", name) or re.search(r"float(\d)", name)
    return (int(bits[1]) if bits else None), _first(data if isinstance(data, Mapping) else {}, "group_size")
