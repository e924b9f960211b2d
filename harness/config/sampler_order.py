"""Which samplers of a strategy act, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from harness.config.decoding import SamplerName
from harness.config.effective import NEUTRAL, acts

DEFAULT_ORDER: tuple[SamplerName, ...] = get_args(SamplerName)
"""transformers' order, with the other samplers where their authors have them."""

ACTIVATED_BY: Mapping[SamplerName, tuple[str, ...]] = {
    **{name: (name,) for name in DEFAULT_ORDER if name in NEUTRAL},
    "temperature": ("temperature", "dynatemp_range", "edt_theta"),
    "smoothing": ("smoothing_factor",),
    "xtc": ("xtc_probability",),
    "mirostat": ("mirostat_mode",),
    "adaptive_p": ("adaptive_target",),
}
"""The fields with which a sampler acts: any of them that is not neutral."""

LAST: tuple[SamplerName, ...] = ("temperature", "smoothing")
"""What `temperature_last` moves behind the truncations."""


def sampler_order(effective: Mapping[str, Any]) -> tuple[SamplerName, ...]:
    """Return the samplers that act, first one first; `effective` has the fields that act."""
    active = {name for name, fields in ACTIVATED_BY.items() if acts(effective, *fields)}
    return tuple(name for name in _whole_order(effective) if name in active)


def _whole_order(effective: Mapping[str, Any]) -> tuple[SamplerName, ...]:
    if effective.get("sampler_order"):
        return tuple(effective["sampler_order"])
    if not effective.get("temperature_last"):
        return DEFAULT_ORDER
    early = [name for name in DEFAULT_ORDER if name not in LAST]
    at = early.index("xtc")
    return (*early[:at], *LAST, *early[at:])
