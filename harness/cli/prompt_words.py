"""Words after a command that takes a prompt: its own keys and flags, and overrides for the rest.

Its keys look like overrides but are not parsed by Hydra: the prompt is taken as it is, unquoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.config.text_file import not_unicode
from harness.errors import Mistake

_SETS = ("prompts", "prompts.file", "prompts.items", "experiments")


@dataclass
class PromptArguments:
    """The prompt exactly as typed, the id of a row, and overrides for Hydra."""

    prompt: str = ""
    prompt_id: str = ""
    overrides: list[str] = field(default_factory=list)

    @property
    def names_a_set(self) -> bool:
        """Whether an override names a prompt set."""
        return any(word.lstrip("+").partition("=")[0] in _SETS for word in self.overrides)


@dataclass
class PromptWords:
    """What was typed: values by own key, flags with their values, overrides; and what is wrong with them."""

    values: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str | None] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def common(self) -> dict[str, Any]:
        """The fields of PromptArguments."""
        values = {name: self.values.get(name, "") for name in ("prompt", "prompt_id")}
        return {**values, "overrides": self.overrides}


def prompt_words(
    command: str, words: Sequence[str], flags: Sequence[str], keys: Sequence[str] = ()
) -> PromptWords:
    """Divide the words after a command; `chat=` becomes the override `prompts.chat=`.

    Args:
        command: its name.
        words: as typed.
        flags: the command's own; `--flag=VALUE` has a value.
        keys: the command's own beside `prompt`, `prompt_id` and `chat`.
    """
    keys = ("prompt", "prompt_id", "chat", *keys)
    found = PromptWords()
    for word in _joined(words, found.mistakes):
        key, equals, value = word.partition("=")
        if key in flags:
            found.flags[key] = value if equals else None
        elif not equals or key not in keys:
            found.overrides.append(word)
        elif key in found.values:
            found.mistakes.append(Mistake(word, f"{key} is given twice; remove one of them"))
        else:
            found.values[key] = value
            if what := not_unicode(value):
                found.mistakes.append(Mistake(key, f"holds {what}; write it in UTF-8"))
    chat = found.values.get("chat")
    if chat is not None and chat.lower() not in ("true", "false"):
        found.mistakes.append(Mistake(f"chat={chat}", "must be true or false"))
    elif chat is not None and f"prompts.chat={chat.lower()}" not in found.overrides:
        found.overrides.append(f"prompts.chat={chat.lower()}")
    if not found.values.get("prompt") and ("prompt" in found.values or not found.values.get("prompt_id")):
        example = f'harness {command} model=M prompt="It was a dark and stormy"'
        found.mistakes.append(Mistake("prompt", f"must be given: {example}"))
    return found


def _joined(words: Sequence[str], mistakes: list[Mistake]) -> list[str]:
    """Return the words without those of a prompt that the shell has divided, which are one mistake."""
    left: list[str] = []
    after: list[str] = []
    for word in words:
        if left and left[-1].startswith("prompt=") and "=" not in word and not word.startswith("-"):
            after.append(word)
        else:
            left.append(word)
    if after:
        prompt = next(word for word in left if word.startswith("prompt="))
        whole = shlex.quote(" ".join([prompt, *after]))
        mistakes.append(Mistake(prompt, f"{len(after)} more words come after it; quote it: {whole}"))
    return left
