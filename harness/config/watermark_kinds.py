"""The watermarks, and what a detector of each has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.config.effective import NEUTRAL, acts, decoding_fields

WatermarkName = Literal["kgw", "synthid", "gumbel"]

MARKED_BY: Mapping[WatermarkName, str] = {
    "kgw": "kgw_bias",
    "synthid": "synthid_keys",
    "gumbel": "gumbel_key",
}
"""The field with which each watermark acts."""

_NOT_DETECTED = ("kgw_bias", "synthid_skip_first_ngram_calls")
"""Fields that say how strong a mark is, or where it begins: a detector needs none of them."""


@dataclass(frozen=True)
class MarkDetector:
    """What a detector has to know of a watermark.

    Attributes:
        name: of the watermark.
        settings: the fields of `Decoding` that it reads, and their values.
        vocabulary: number of tokens of the model.
    """

    name: WatermarkName
    settings: tuple[tuple[str, Any], ...]
    vocabulary: int

    @property
    def value(self) -> dict[str, Any]:
        """The settings by field."""
        return dict(self.settings)


def watermarks_of(effective: Mapping[str, Any]) -> list[WatermarkName]:
    """Return the watermarks of an effective decoding: one at most, where its rules are met."""
    return [name for name, field in MARKED_BY.items() if acts(effective, field)]


def mark_settings(effective: Mapping[str, Any], name: WatermarkName) -> dict[str, Any]:
    """Return all fields of a watermark, with the values they have."""
    activated_by = MARKED_BY[name]
    fields = decoding_fields("watermark")
    its = [key for key, field in fields.items() if activated_by in (key, field.needs)]
    return {key: effective.get(key, NEUTRAL[key]) for key in its}


def detector_of(effective: Mapping[str, Any], vocabulary: int) -> MarkDetector | None:
    """Return what detects the watermark of an effective decoding; None where it has none."""
    found = watermarks_of(effective)
    if not found:
        return None
    settings = mark_settings(effective, found[0])
    kept = ((key, value) for key, value in settings.items() if key not in _NOT_DETECTED)
    frozen = tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in kept)
    return MarkDetector(found[0], frozen, vocabulary)
