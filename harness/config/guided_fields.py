"""What the fields that guide a strategy ask for beside its own rows; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.effective import acts

SECOND_PROMPT = ("guidance_scale", "context_alpha")
"""The fields with which a strategy reads its texts after a second prompt too."""


def needs_second_prompt(effective: Mapping[str, Any]) -> bool:
    """Return whether a strategy reads its texts after a second prompt of the same model too."""
    return acts(effective, *SECOND_PROMPT)


def is_guided(effective: Mapping[str, Any]) -> bool:
    """Return whether a strategy contrasts its distribution with a second one."""
    return acts(effective, *SECOND_PROMPT, "amateur", "dola_layers")


def amateur_id(effective: Mapping[str, Any]) -> str | None:
    """Return the model that the field `amateur` names, also where its weights stand beside it."""
    amateur = effective.get("amateur")
    return amateur["id"] if isinstance(amateur, Mapping) else amateur


def rows_per_text(effective: Mapping[str, Any]) -> int:
    """Return how many rows a text takes: two where another prompt or model reads it too."""
    return 2 if needs_second_prompt(effective) or amateur_id(effective) is not None else 1
