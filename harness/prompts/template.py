"""Templates: text with {fields} of a row. Nothing but names: no attributes, no indexes, no formats."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

from harness.errors import ConfigError

Part = tuple[str, str | None]


def parse_template(template: str) -> tuple[Part, ...]:
    """Split a template into (literal text, name of the field after it or None).

    Raises:
        ConfigError: a brace without its partner, or a field that is more than a name.
    """
    parts: list[Part] = []
    try:
        for literal, name, spec, conversion in Formatter().parse(template):
            if name is not None and (spec or conversion or not name.strip() or set(name) & set(".[]{}")):
                shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                raise ValueError(f"{{{shown}}} is not just a field's name")
            parts.append((literal, name))
    except ValueError as error:
        message = f"{template!r:.80}: {error}; a field is {{name}}, a literal brace is doubled: {{{{ or }}}}"
        raise ConfigError.of("prompts.template", message) from None
    return tuple(parts)


def fill(parts: tuple[Part, ...], values: Mapping[str, Any]) -> str:
    """The template's text with the fields' values.

    Raises:
        ValueError: a field is not among the values, or its value is no plain text or number.
    """
    pieces = []
    for literal, name in parts:
        pieces.append(literal)
        if name is None:
            continue
        value = values.get(name)
        if value is None:
            there = ", ".join(values) or "none"
            raise ValueError(
                f"prompts.template names {{{name}}}, which the row lacks; its fields are: {there}"
            )
        if not isinstance(value, str | int | float):
            raise ValueError(
                f"prompts.template names {{{name}}}, whose value is no text or number: {value!r:.60}"
            )
        pieces.append(str(value))
    return "".join(pieces)
