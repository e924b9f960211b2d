"""A value that Hydra's grammar does not take as it is, quoted so that it does."""

from __future__ import annotations

import re

from harness.config.schema import value_keys
from harness.config.validation import describe

_INNERMOST_LIST = re.compile(r"\[([^\[\]]*)\]")


def quoted_value(key: str, value: str) -> str:
    """Return a value as Hydra takes it for its key: lists of overrides for `cases`, a list, or a text.

    Args:
        key: dotted, without a `+`.
        value: as it was written, without quotes or with too few.
    """
    if key == "cases":
        return f"[{','.join(map(_case, _INNERMOST_LIST.findall(value) or [value.strip('[] ')]))}]"
    quoted = _as_texts(value)
    takes_list = key in value_keys() and describe(*key.split(".", 1)).startswith("a list")
    return f"[{quoted}]" if takes_list and not quoted.startswith("[") else quoted


def _case(text: str) -> str:
    """One case; a comma begins its next override where a key and `=` come after it."""
    overrides = (one.strip(" '\"") for one in re.split(r",(?=\s*['\"]?[+~]?[\w.]+=)", text))
    return f"[{','.join(_text(one) for one in overrides if one)}]"


def _as_texts(value: str) -> str:
    """A value as a text; a plain list as a list of texts."""
    items = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else []
    if items and not set('[]{}"').intersection(value[1:-1]):
        return f"[{','.join(_as_texts(item.strip()) for item in items)}]"
    return _text(value)


def _text(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value, quote=Quote.double).with_quotes()
