"""The mistake of a key that changes nothing, and a field of a strategy as it is typed."""

from __future__ import annotations

from typing import Any

from harness.config.structure import STRUCTURES, shortened
from harness.config.validation import format_value
from harness.errors import Mistake


class NoEffect(Mistake):
    """The mistake of a key, `key` up to its `=`, that changes nothing beside the other keys of its point."""


def typed(key: str, value: Any) -> str:
    """Return a field of `Decoding` with its value, as on the command line."""
    return f"decoding.{key}={shortened(value) if key in STRUCTURES else format_value(value)}"
