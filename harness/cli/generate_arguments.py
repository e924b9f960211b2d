"""The arguments of `harness generate`: its own keys, and overrides for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.cli.prompt_words import PromptArguments, prompt_words
from harness.errors import ConfigError, Mistake


@dataclass
class GenerateArguments(PromptArguments):
    """The prompt, and how to print; `colours` is False where tokens shall not be coloured."""

    as_json: bool = False
    colours: bool = True


def generate_arguments(words: Sequence[str]) -> GenerateArguments:
    """Parse the words after `generate`.

    Raises:
        ConfigError: with every mistake in its own keys.
    """
    typed = prompt_words("generate", words, ("--json", "--no-color"))
    mistakes = typed.mistakes + [
        Mistake(f"{flag}={value}", f"takes no value; write {flag}")
        for flag, value in typed.flags.items()
        if value is not None
    ]
    if mistakes:
        raise ConfigError(mistakes)
    return GenerateArguments(
        **typed.common, as_json="--json" in typed.flags, colours="--no-color" not in typed.flags
    )
