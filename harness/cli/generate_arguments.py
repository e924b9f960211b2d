"""The arguments of `harness generate`: its own keys, and overrides for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.cli.prompt_words import no_prompt, prompt_words
from harness.errors import ConfigError, Mistake

_SETS = ("prompts", "prompts.file", "prompts.items", "experiments")


@dataclass
class GenerateArguments:
    """The prompt exactly as typed, the id of a stored one, and overrides for Hydra.

    `colours` is False where tokens shall not be coloured.
    """

    prompt: str = ""
    prompt_id: str = ""
    chat: bool = False
    as_json: bool = False
    colours: bool = True
    overrides: list[str] = field(default_factory=list)

    @property
    def names_a_set(self) -> bool:
        """Whether an override names a prompt set."""
        return any(word.lstrip("+").partition("=")[0] in _SETS for word in self.overrides)


def generate_arguments(words: Sequence[str]) -> GenerateArguments:
    """Parse the words after `generate`.

    Raises:
        ConfigError: with every mistake in its own keys.
    """
    typed = prompt_words(words, ("prompt", "prompt_id", "chat"), ("--json", "--no-color"))
    mistakes = typed.mistakes
    mistakes += [
        Mistake(f"{flag}={value}", f"takes no value; write {flag}")
        for flag, value in typed.flags.items()
        if value is not None
    ]
    found = GenerateArguments(
        prompt=typed.values.get("prompt", ""),
        prompt_id=typed.values.get("prompt_id", ""),
        chat=typed.chat,
        as_json="--json" in typed.flags,
        colours="--no-color" not in typed.flags,
        overrides=typed.overrides,
    )
    if not found.prompt and ("prompt" in typed.values or not found.prompt_id):
        mistakes.append(no_prompt("generate"))
    if mistakes:
        raise ConfigError(mistakes)
    return found
