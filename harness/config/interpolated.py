"""Values that an interpolation gave, as `generation.seed=${oc.env:SEED}`: text becomes what the key takes.

The environment holds only text. A typed Hydra config converts it to the type of its key; here that is done
where the text as it is would be refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.config.schema import section_fields

_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def converted(section: str, key: str, raw: Any, value: Any) -> Any:
    """Return a value, its texts that came from interpolations converted if the key would refuse them.

    Args:
        section: of the config.
        key: of the section.
        raw: the value with its interpolations.
        value: the same, resolved.
    """
    if raw == value or key not in section_fields(section) or _accepted(section, key, value):
        return value
    for convert in (_number, _boolean):
        candidate = _leaves(convert, raw, value)
        if _accepted(section, key, candidate):
            return candidate
    return value


def _leaves(convert: Callable[[str], Any], raw: Any, value: Any) -> Any:
    """The value with each text that an interpolation gave converted."""
    if isinstance(value, str) and raw != value:
        return convert(value)
    if isinstance(value, list) and isinstance(raw, list) and len(raw) == len(value):
        return [_leaves(convert, *pair) for pair in zip(raw, value, strict=True)]
    return value


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _boolean(text: str) -> Any:
    return _BOOLEANS.get(text.lower(), text)


def _accepted(section: str, key: str, value: Any) -> bool:
    """Whether the key takes the value."""
    try:
        _adapter(section, key).validate_json(json.dumps(value))
    except (ValidationError, TypeError, ValueError):
        return False
    return True


@cache
def _adapter(section: str, key: str) -> TypeAdapter[Any]:
    info = section_fields(section)[key]
    kind: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
