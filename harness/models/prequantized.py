"""Checkpoints that are stored quantized: told apart from quantizing on load, by what config.json says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.models.packages import lacking


@dataclass(frozen=True)
class Stored:
    """How a checkpoint was quantized before it was stored.

    Attributes:
        method: `quant_method` as transformers names it: gptq, awq, bitsandbytes, compressed-tensors, ...
        bits: of a weight; None where the config does not say.
        group_size: weights that share a scale; None where a row or a tensor does, or where it is not said.
        compute_dtype: what bitsandbytes is to unpack 4-bit weights to, as stored.
    """

    method: str
    bits: int | None = None
    group_size: int | None = None
    compute_dtype: str | None = None

    def __str__(self) -> str:
        told = [self.method]
        if self.bits is not None:
            told.append(f"{self.bits} bits")
        if self.group_size is not None:
            told.append(f"groups of {self.group_size}")
        return ", ".join(told)


@dataclass(frozen=True)
class _Needs:
    """What transformers 5 needs to load a method: modules, our extra that brings them, kinds of device."""

    modules: tuple[str, ...] = ()
    extra: str = ""
    devices: tuple[str, ...] = ("cuda", "cpu")


# Unpacked to the dtype asked for when loaded: their kernels would be fetched from the hub.
UNPACKED = ("fp8", "mxfp4")
_METHODS = {
    "bitsandbytes": _Needs(("bitsandbytes",)),
    "torchao": _Needs(("torchao",), "torchao"),
    "gptq": _Needs(("optimum", "gptqmodel"), "gptq"),
    "awq": _Needs(("gptqmodel",), "awq"),
    "compressed-tensors": _Needs(("compressed_tensors",), "compressed-tensors"),
    "fp8": _Needs(),
    "mxfp4": _Needs(),
}


def stored_quantization(config: Mapping[str, Any]) -> Stored | None:
    """What `quantization_config` of a config.json says; None for a checkpoint that is not quantized."""
    found = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(found, Mapping):
        return None
    method = str(found.get("quant_method", "unknown"))
    if found.get("load_in_8bit") or found.get("load_in_4bit"):
        # Old checkpoints of bitsandbytes name no method.
        eight = bool(found.get("load_in_8bit"))
        dtype = None if eight else str(found.get("bnb_4bit_compute_dtype") or "float32")
        return Stored("bitsandbytes", 8 if eight else 4, None, dtype)
    bits, group = _first(found, "bits", "w_bit", "nbits"), _first(found, "group_size", "q_group_size")
    if method == "compressed-tensors":
        weights = next(_of_groups(found), {})
        bits, group = _first(weights, "num_bits"), _first(weights, "group_size")
    elif method == "torchao":
        bits, group = _of_torchao(found)
    elif method in UNPACKED:
        bits = {"fp8": 8, "mxfp4": 4}[method]
    return Stored(method, bits, group if group and group > 0 else None)


def stored_problem(stored: Stored, device: str) -> str | None:
    """Why a checkpoint stored so cannot be run on a device, None when it can."""
    if stored.method not in _METHODS:
        return f"which the harness does not run; it runs {', '.join(_METHODS)}"
    needs, kind = _METHODS[stored.method], device.partition(":")[0]
    if kind not in needs.devices:
        return f"which runs on {' and '.join(needs.devices)}, and this is {device}"
    if (missing := lacking(needs.modules, needs.extra)) is not None:
        return f"which needs {' and '.join(needs.modules)}; {missing}"
    return None


def stored_note(name: str, stored: Stored) -> str:
    """What the user of a quantized checkpoint should know, in a line."""
    unpacked = "; its weights are unpacked when they are loaded" if stored.method in UNPACKED else ""
    return f"{name} is stored quantized ({stored}) and is run as it is{unpacked}"


def _first(found: Mapping[str, Any], *keys: str) -> int | None:
    values = (found.get(key) for key in keys)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _of_groups(found: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The weights' part of each group of layers of compressed-tensors."""
    groups = found.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping):
            yield group["weights"]


def _of_torchao(found: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Bits and group of torchao, whose configs have them in their names: Int4WeightOnlyConfig."""
    kind = found.get("quant_type")
    default = kind.get("default") if isinstance(kind, Mapping) else None
    if not isinstance(default, Mapping):
        return None, None
    data = default.get("_data")
    name = str(default.get("_type", ""))
    bits = re.search(r"(\d)weight", name.lower()) or re.search(r"float(\d)", name.lower())
    return (int(bits[1]) if bits else None), _first(data if isinstance(data, Mapping) else {}, "group_size")
