"""Checkpoints that are already quantized, according to their config.json, unlike quantizing on load."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
        words = [self.method]
        if self.bits is not None:
            words.append(f"{self.bits} bits")
        if self.group_size is not None:
            words.append(f"groups of {self.group_size}")
        return ", ".join(words)


@dataclass(frozen=True)
class _Requirements:
    """What transformers 5 needs to load a method: modules, our extra that has them, device types."""

    modules: tuple[str, ...] = ()
    extra: str = ""
    devices: tuple[str, ...] = ("cuda", "cpu")


# Unpacked to the configured dtype when loaded: their kernels would be fetched from the hub.
UNPACKED = ("fp8", "mxfp4")
_METHODS = {
    "bitsandbytes": _Requirements(("bitsandbytes",)),
    "torchao": _Requirements(("torchao",), "torchao"),
    "gptq": _Requirements(("optimum", "gptqmodel"), "gptq"),
    "awq": _Requirements(("gptqmodel",), "awq"),
    "compressed-tensors": _Requirements(("compressed_tensors",), "compressed-tensors"),
    "fp8": _Requirements(),
    "mxfp4": _Requirements(),
}


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
        weights = next(_group_weights(found), {})
        bits, group = _first(weights, "num_bits"), _first(weights, "group_size")
    elif method == "torchao":
        bits, group = _torchao_bits_and_group(found)
    elif method in UNPACKED:
        bits = {"fp8": 8, "mxfp4": 4}[method]
    return StoredQuantization(method, bits, group if group and group > 0 else None)


def stored_problem(stored: StoredQuantization, device: str) -> str | None:
    """Return why an already quantized checkpoint cannot be run on a device, None when it can."""
    if stored.method not in _METHODS:
        return f"which is not supported; supported are {', '.join(_METHODS)}"
    required, kind = _METHODS[stored.method], device.partition(":")[0]
    if kind not in required.devices:
        return f"which runs on {' and '.join(required.devices)}, and this is {device}; set model.device"
    if (missing := missing_packages(required.modules, required.extra)) is not None:
        return f"which needs {' and '.join(required.modules)}; {missing}"
    return None


def stored_note(name: str, stored: StoredQuantization) -> str:
    """Return the warning about an already quantized checkpoint, in one line."""
    unpacked = "; its weights are unpacked when loaded" if stored.method in UNPACKED else ""
    return f"{name}: the checkpoint is already quantized ({stored}) and runs as it is{unpacked}"


def _first(found: Mapping[str, Any], *keys: str) -> int | None:
    values = (found.get(key) for key in keys)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _group_weights(found: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield `weights` of each group of layers of compressed-tensors."""
    groups = found.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping):
            yield group["weights"]


def _torchao_bits_and_group(found: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return bits and group size of torchao, whose configs name the bits (Int4WeightOnlyConfig)."""
    kind = found.get("quant_type")
    default = kind.get("default") if isinstance(kind, Mapping) else None
    if not isinstance(default, Mapping):
        return None, None
    data = default.get("_data")
    name = str(default.get("_type", ""))
    bits = re.search(r"(\d)weight", name.lower()) or re.search(r"float(\d)", name.lower())
    return (int(bits[1]) if bits else None), _first(data if isinstance(data, Mapping) else {}, "group_size")
