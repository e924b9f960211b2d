"""The arguments of `harness inspect`: its own keys, and overrides for the rest.

Its keys look like overrides but are not parsed by Hydra: the prompt is taken as it is, unquoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.config.text_file import not_unicode
from harness.errors import ConfigError, Mistake

_KEYS = ("prompt", "steps", "top_k", "chat")


@dataclass
class InspectArguments:
    """The prompt exactly as typed, steps and rows of the next-token table, and overrides for Hydra."""

    prompt: str = ""
    steps: int = 1
    top_k: int = 10
    chat: bool = False
    as_json: bool = False
    overrides: list[str] = field(default_factory=list)


def inspect_arguments(words: Sequence[str]) -> InspectArguments:
    """Parse the words after `inspect`.

    Raises:
        ConfigError: with every mistake in its own keys.
    """
    found = InspectArguments()
    mistakes: list[Mistake] = []
    given: set[str] = set()
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in _KEYS and key in given:
            mistakes.append(Mistake(word, f"{key} is given twice; remove one of them"))
        given.add(key)
        if word == "--json":
            found.as_json = True
        elif not equals or key not in _KEYS:
            found.overrides.append(word)
        elif key == "prompt":
            found.prompt = value
            if what := not_unicode(value):
                mistakes.append(Mistake("prompt", f"holds {what}; write it in UTF-8"))
        elif key == "chat":
            if value.lower() not in ("true", "false"):
                mistakes.append(Mistake(word, "must be true or false"))
            found.chat = value.lower() == "true"
        elif value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= 1:
            setattr(found, key, int(value))
        else:
            mistakes.append(Mistake(word, "must be a whole number from 1 to 999999999"))
    if not found.prompt:
        mistakes.append(
            Mistake("prompt", 'must be given: harness inspect model=M prompt="It was a dark and stormy"')
        )
    if mistakes:
        raise ConfigError(mistakes)
    return found
