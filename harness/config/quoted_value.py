"""A value that Hydra's grammar does not take as it is, quoted so that it does."""

from __future__ import annotations

import re

from harness.config.schema import value_keys
from harness.config.validation import describe

_NEXT_OVERRIDE = re.compile(r"\s*['\"]?[+~]?[\w.]+=")


def quoted_value(key: str, value: str) -> str:
    """Return a value as Hydra takes it for its key: lists of overrides for `cases`, a list, or a text.

    Args:
        key: dotted, without a `+`.
        value: as it was written, without quotes or with too few.
    """
    if key == "cases":
        return f"[{','.join(map(_case, _cases(value.strip())))}]"
    quoted = _as_texts(value)
    takes_list = key in value_keys() and describe(*key.split(".", 1)).startswith("a list")
    return f"[{quoted}]" if takes_list and not quoted.startswith("[") else quoted


def _cases(value: str) -> list[str]:
    """The cases that are meant, without their brackets; one where they are not lists in a list."""
    inner = _bare(value)
    cases = _parts(inner)
    return [_bare(one) for one in cases] if all(_bare(one) != one for one in cases) else [inner]


def _case(text: str) -> str:
    """One case; a comma begins its next override where a key and `=` come after it."""
    overrides: list[str] = []
    for part in _parts(text):
        if overrides and not _NEXT_OVERRIDE.match(part):
            overrides[-1] += f",{part}"
        else:
            overrides.append(part)
    texts = (_text(one.strip(" '\"")) for one in overrides)
    return f"[{','.join(texts)}]"


def _parts(text: str) -> list[str]:
    """What commas divide, but for those inside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _as_texts(value: str) -> str:
    """A value as a text; a plain list as a list of texts."""
    items = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else []
    if items and not set('[]{}"').intersection(value[1:-1]):
        return f"[{','.join(_as_texts(item.strip()) for item in items)}]"
    return _text(value)


def _text(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value, quote=Quote.double).with_quotes()
