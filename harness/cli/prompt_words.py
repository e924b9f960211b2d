"""Words after a command that takes a prompt: its own keys and flags, and overrides for the rest.

Its keys look like overrides but are not parsed by Hydra: the prompt is taken as it is, unquoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.config.text_file import not_unicode
from harness.errors import Mistake


@dataclass
class PromptWords:
    """What was typed: values by own key, flags with their values, overrides; and what is wrong with them."""

    values: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str | None] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def chat(self) -> bool:
        """Whether `chat=true` was given."""
        return self.values.get("chat", "").lower() == "true"


def prompt_words(words: Sequence[str], keys: Sequence[str], flags: Sequence[str]) -> PromptWords:
    """Divide the words after a command.

    Args:
        words: as typed.
        keys: the command's own, `prompt` and `chat` among them.
        flags: the command's own; `--flag=VALUE` has a value.
    """
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
    if found.values.get("chat", "true").lower() not in ("true", "false"):
        found.mistakes.append(Mistake(f"chat={found.values['chat']}", "must be true or false"))
    return found


def no_prompt(command: str) -> Mistake:
    """Return the mistake of a command without a prompt."""
    return Mistake("prompt", f'must be given: harness {command} model=M prompt="It was a dark and stormy"')


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
