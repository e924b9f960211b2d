"""Templates: text with {fields} of a row. A field is a name only: no attributes, indexes or formats."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

from harness.errors import ConfigError

Segment = tuple[str, str | None]
"""Literal text, and the name of the field after it or None."""


def parse_template(template: str) -> tuple[Segment, ...]:
    """Split a template into its segments.

    Raises:
        ConfigError: a brace is not closed, a field is more than a name, or there is none.
    """
    segments: list[Segment] = []
    try:
        for literal, name, spec, conversion in Formatter().parse(template):
            if name is not None and (spec or conversion or not name.strip() or set(name) & set(".[]{}")):
                shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                raise ValueError(f"{{{shown}}} is not just a field's name")
            segments.append((literal, name))
    except ValueError as error:
        message = f"{template!r:.80}: {error}; a field is {{name}}, a literal brace is doubled: {{{{ or }}}}"
        raise ConfigError.of("prompts.template", message) from None
    if all(name is None for _, name in segments):
        message = (
            f"{template!r:.80}: names no field, so all prompts would be this text; name one, as {{prompt}}"
        )
        raise ConfigError.of("prompts.template", message)
    return tuple(segments)


def fill(segments: tuple[Segment, ...], values: Mapping[str, Any]) -> str:
    """Return the template's text with the fields' values.

    Raises:
        ValueError: a field is not among the values, or its value is neither text nor a number.
    """
    texts = []
    for literal, name in segments:
        texts.append(literal)
        if name is None:
            continue
        value, named = values.get(name), f"prompts.template names {{{name}}}"
        if value is None:
            raise ValueError(
                f"{named}, which the row lacks; its fields are: {', '.join(values) or 'none':.200}"
            )
        if not isinstance(value, str | int | float):
            raise ValueError(f"{named}, whose value is neither text nor a number: {value!r:.60}")
        texts.append(str(value))
    return "".join(texts)
