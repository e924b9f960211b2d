"""Quantized key-value caches: whether transformers' QuantizedCache can be used, its config and its size.

Its scales are shared over a batch (one for all values in fp8; hqq stops improving them by the mean error), so
a sample would depend on the rest of its batch: a quantized cache is used with one sample at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.point import Cache
from harness.errors import ConfigError
from harness.models.memory import has_full_attention, head_dim, key_value_heads, kv_cache_bytes
from harness.models.packages import missing_packages, package_version

if TYPE_CHECKING:
    from harness.models.model_files import ModelFiles

NOTE = (
    "with a quantized cache every sample is prefilled and decoded alone, by stock `generate`, and shares no "
    "prefix with others"
)
PACKAGES = {"hqq": ("hqq",), "fp8": ()}
"""Distributions whose arithmetic the samples depend on, by cache backend."""
_GROUPS = (64, 32, 16, 8)
_RESIDUAL_LENGTH = 128  # transformers' default


@cache
def has_fp8_cache() -> bool:
    """Return whether the installed transformers stores a cache in fp8, by the text of its code."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return False
    path = Path(spec.submodule_search_locations[0]) / "cache_utils.py"
    try:
        return 'backend == "fp8"' in path.read_text(encoding="utf-8")
    except OSError:
        return True


def check_cache(cache: Cache, device: str, files: ModelFiles) -> None:
    """Check that the device and the model can be run with a cache.

    Raises:
        ConfigError: they cannot; with the cure.
    """
    if not cache.quantized:
        return
    key, config = f"cache.backend={cache.backend}", files.text_config
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError.of(key, f"runs on cpu and cuda, and this is {device}; use cache=default")
    if cache.backend == "hqq" and (missing := missing_packages(("hqq",), "hqq")) is not None:
        other = "; or use cache=quantized_fp8, which needs no package" if has_fp8_cache() else ""
        raise ConfigError.of(key, missing + other)
    if cache.backend == "fp8" and not has_fp8_cache():
        problem = f"transformers {package_version('transformers')} does not have it"
        raise ConfigError.of(key, f"{problem}; use cache=default, or a newer transformers")
    if not has_full_attention(config):
        raise ConfigError.of(
            key,
            f"{files.id} has layers without full attention (a sliding window), and a quantized cache "
            "supports full attention only; use cache=default",
        )
    largest = _group_size(cache, config)
    if cache.backend == "hqq" and not _packs(cache, cache.q_group_size or largest or 0, config):
        cure = f"use {largest}" if largest else "use cache=quantized_int8 or cache=quantized_fp8"
        raise ConfigError.of(
            f"cache.q_group_size={cache.q_group_size or 'null'}",
            f"must divide the head dimension of {head_dim(config)}, and the groups of "
            f"{key_value_heads(config)} heads must fill whole bytes at {cache.nbits or 4} bits; {cure}",
        )


def cache_config(cache: Cache, files: ModelFiles) -> dict[str, Any] | None:
    """Return the `cache_config` for `generate`, every key that matters set; None for the default cache."""
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
        "residual_length": cache.residual_length or _RESIDUAL_LENGTH,
    }


def quantized_cache_bytes(
    config: Mapping[str, Any], tokens: int, value_bytes: int, settings: Mapping[str, Any]
) -> int:
    """Return an upper bound on the bytes of a quantized cache of one sample.

    As `kv_cache_bytes`; `value_bytes` are those of scales, zero points and the residual that is not
    quantized, and `settings` are what `cache_config` returns.
    """
    values = kv_cache_bytes(config, tokens, 1)
    if settings["backend"] == "fp8":
        return values
    residual = kv_cache_bytes(config, min(tokens, settings["residual_length"] - 1), value_bytes)
    groups = values // settings["q_group_size"]
    return values * settings["nbits"] // 8 + 2 * groups * value_bytes + residual


def _group_size(cache: Cache, config: Mapping[str, Any]) -> int | None:
    """Return the largest group size that packs; None when none does."""
    return next((size for size in _GROUPS if _packs(cache, size, config)), None)


def _packs(cache: Cache, size: int, config: Mapping[str, Any]) -> bool:
    """Return whether groups of this size divide a head and fill whole bytes at any number of positions."""
    width = head_dim(config)
    if size < 1 or width < 1 or width % size:
        return False
    return key_value_heads(config) * (width // size) % (8 // (cache.nbits or 4)) == 0
