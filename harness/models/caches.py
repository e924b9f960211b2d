"""Quantized key-value caches: transformers' QuantizedCache, told what was asked, where it can be had.

Its scales are shared over a batch (one for all values in fp8; hqq stops improving them by the mean error), so
a text would depend on its company: a quantized cache holds one text at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.config.point import Cache
from harness.errors import ConfigError
from harness.models.memory import head_width, key_value_heads, kv_cache_bytes, sees_everything
from harness.models.packages import lacking

if TYPE_CHECKING:
    from harness.models.locate import ModelFiles

NOTE = (
    "the quantized cache holds one text at a time and keeps out of the tree: every text was prefilled and "
    "decoded by stock `generate`, alone"
)
PACKAGES = {"hqq": ("hqq",), "fp8": ()}
"""The distributions whose arithmetic a backend is."""
_GROUPS = (64, 32, 16, 8)
_RESIDUAL = 128  # transformers' own default


def check_cache(cache: Cache, device: str, files: ModelFiles) -> None:
    """Refuse a cache that the device or the model cannot be run with.

    Raises:
        ConfigError: names the cure.
    """
    if not cache.quantized:
        return
    kind = device.partition(":")[0]
    key, config = f"cache.backend={cache.backend}", files.text_config
    if kind not in ("cpu", "cuda"):
        raise ConfigError.of(key, f"runs on cpu, cuda, and this is {device}; use cache=default")
    if cache.backend == "hqq" and (missing := lacking(("hqq",), "hqq")) is not None:
        raise ConfigError.of(key, f"{missing}; or use cache=quantized_fp8, which needs no package")
    if not sees_everything(config):
        raise ConfigError.of(
            key,
            f"{files.id} has layers that keep less than the whole text (a sliding window), and a quantized "
            "cache takes full attention only; use cache=default",
        )
    if cache.backend == "hqq" and not _packs(cache, cache.q_group_size or 0, config):
        fits = _group_size(cache, config)
        cure = f"use {fits}" if fits else "use cache=quantized_int8 or cache=quantized_fp8"
        if cache.q_group_size is not None or fits is None:
            raise ConfigError.of(
                f"cache.q_group_size={cache.q_group_size or 'null'}",
                f"must divide a head's width of {head_width(config)}, and the groups of "
                f"{key_value_heads(config)} heads fill whole bytes at {cache.nbits or 4} bits; {cure}",
            )


def cache_config(cache: Cache, files: ModelFiles) -> dict[str, Any] | None:
    """What `generate` takes as `cache_config`, every key that matters set; None for the model's own cache."""
    if not cache.quantized:
        return None
    if cache.backend == "fp8":
        return {"backend": "fp8"}
    return {
        "backend": cache.backend,
        "nbits": cache.nbits or 4,
        "axis_key": cache.axis_key or 0,
        "axis_value": cache.axis_value or 0,
        "q_group_size": cache.q_group_size or _group_size(cache, files.text_config),
        "residual_length": cache.residual_length or _RESIDUAL,
    }


def quantized_cache_bytes(
    config: Mapping[str, Any], tokens: int, value_bytes: int, asked: Mapping[str, Any]
) -> int:
    """The most that a quantized cache of one text holds.

    Args:
        config: as `kv_cache_bytes`.
        tokens: positions held.
        value_bytes: bytes a value of scales, zero points and what is still plain.
        asked: as `cache_config` tells it.
    """
    values = kv_cache_bytes(config, tokens, 1)
    if asked["backend"] == "fp8":
        return values
    plain = kv_cache_bytes(config, min(tokens, asked["residual_length"] - 1), value_bytes)
    groups = values // asked["q_group_size"]
    return values * asked["nbits"] // 8 + 2 * groups * value_bytes + plain


def _group_size(cache: Cache, config: Mapping[str, Any]) -> int | None:
    """The largest group that lies within a head and packs at any length of text."""
    return next((size for size in _GROUPS if _packs(cache, size, config)), None)


def _packs(cache: Cache, size: int, config: Mapping[str, Any]) -> bool:
    """Whether groups of this size lie within a head, and fill whole bytes at any number of positions."""
    width = head_width(config)
    if size < 1 or width < 1 or width % size:
        return False
    return key_value_heads(config) * (width // size) % (8 // (cache.nbits or 4)) == 0
