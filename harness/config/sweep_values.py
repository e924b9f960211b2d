"""Several values of a key that cannot be meant: a list without brackets, a decimal comma, a value twice."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from harness.config.schema import value_keys
from harness.config.validation import describe
from harness.errors import Mistake

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_DECIMAL_COMMA = re.compile(r"0,\d+")


def wrong_values(override: Override) -> Mistake | None:
    """Return what is wrong with the values that an override separates by commas."""
    from hydra.core.override_parser.types import ValueType

    key, text = override.key_or_group, override.input_line or ""
    if override.value_type != ValueType.SIMPLE_CHOICE_SWEEP or override.is_hydra_override():
        return None
    written = text.partition("=")[2]
    takes = describe(*key.split(".", 1)) if key in value_keys() else ""
    values = list(override.sweep_iterator())
    # The lists of a sweep of lists are written with brackets, which a value of `null` stands beside.
    if takes.startswith("a list") and not any(one is None or one[:1] == "[" for one in map(_text, values)):
        quote = '"' if takes == "a list, each text" else ""
        items = ",".join(f"{quote}{_text(one).strip(_QUOTES)}{quote}" for one in values)
        return Mistake(text, f"must be a list, in brackets; write {shlex.quote(f'{key}=[{items}]')}")
    if takes.startswith("a number above 0") and _DECIMAL_COMMA.fullmatch(written):
        return Mistake(text, f"two values, the first is not above 0; write {key}={written.replace(',', '.')}")
    texts = [_text(one) for one in values]
    if twice := next((one for one in texts if texts.count(one) > 1), None):
        once = ",".join(dict.fromkeys(texts))
        return Mistake(text, f"names {twice} twice; write {shlex.quote(f'{key}={once}')}")
    return None


_QUOTES = "'\""


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
