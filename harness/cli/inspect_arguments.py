"""The arguments of `harness inspect`: its own few, the prompt as it is, and overrides for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.errors import ConfigError, Mistake


@dataclass
class InspectArguments:
    """What was asked.

    Attributes:
        prompt: the text, exactly as typed.
        steps: tokens to walk on, at least 1.
        top_k: rows of the next-token table, at least 1.
        chat: whether the prompt goes through the chat template.
        as_json: for machines.
        overrides: all else, composed by Hydra.
    """

    prompt: str = ""
    steps: int = 1
    top_k: int = 10
    chat: bool = False
    as_json: bool = False
    overrides: list[str] = field(default_factory=list)


def inspect_arguments(words: Sequence[str]) -> InspectArguments:
    """Read the words after `inspect`.

    Raises:
        ConfigError: with every mistake among its own arguments.
    """
    found = InspectArguments()
    mistakes: list[Mistake] = []
    given = False
    for word in words:
        key, equals, value = word.partition("=")
        if key == "prompt" and equals:
            found.prompt, given = value, True
        elif key in ("steps", "top_k") and equals:
            if value.isascii() and value.isdigit() and int(value) >= 1:
                setattr(found, key, int(value))
            else:
                mistakes.append(Mistake(word, "must be a whole number from 1"))
        elif key == "chat" and equals:
            if value.lower() in ("true", "false"):
                found.chat = value.lower() == "true"
            else:
                mistakes.append(Mistake(word, "must be true or false"))
        elif word == "--json":
            found.as_json = True
        else:
            found.overrides.append(word)
    if not given or not found.prompt:
        mistakes.append(
            Mistake("prompt", 'must be given: harness inspect model=M prompt="It was a dark and stormy"')
        )
    if mistakes:
        raise ConfigError(mistakes)
    return found
