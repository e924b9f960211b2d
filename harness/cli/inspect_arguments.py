"""The arguments of `harness inspect`: its own keys, and overrides for the rest.

Its keys look like overrides but are not parsed by Hydra: the prompt is taken as it is, unquoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

from harness.config.text_file import not_unicode
from harness.errors import ConfigError, Mistake

_KEYS = ("prompt", "steps", "top_k", "chat")
_TOP_K, _TOP_K_OF_A_PAGE = 10, 20


@dataclass
class InspectArguments:
    """The prompt exactly as typed, steps and rows of the next-token table, and overrides for Hydra.

    `page` is the port of the page, 0 for any that is free; None where no page is asked for.
    """

    prompt: str = ""
    steps: int = 1
    top_k: int = _TOP_K
    chat: bool = False
    as_json: bool = False
    page: int | None = None
    overrides: list[str] = field(default_factory=list)


def inspect_arguments(words: Sequence[str]) -> InspectArguments:
    """Parse the words after `inspect`.

    Raises:
        ConfigError: with every mistake in its own keys.
    """
    found = InspectArguments()
    mistakes: list[Mistake] = []
    given: set[str] = set()
    words = _joined(words, mistakes)
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in _KEYS and key in given:
            mistakes.append(Mistake(word, f"{key} is given twice; remove one of them"))
        given.add(key)
        if word == "--json":
            found.as_json = True
        elif key == "--page":
            port = _port(value) if equals else 0
            if port is None:
                mistakes.append(
                    Mistake(word, "must be a port from 1 to 65535; --page takes one that is free")
                )
            found.page = port
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
    if found.page is not None:
        mistakes += _without_effect(found, given)
        if "top_k" not in given:
            found.top_k = _TOP_K_OF_A_PAGE
    if not found.prompt:
        mistakes.append(
            Mistake("prompt", 'must be given: harness inspect model=M prompt="It was a dark and stormy"')
        )
    if mistakes:
        raise ConfigError(mistakes)
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


def _port(text: str) -> int | None:
    port = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    return port if 1 <= port <= 65535 else None


def _without_effect(found: InspectArguments, given: Set[str]) -> Iterator[Mistake]:
    """Yield what makes no sense beside `--page`."""
    if found.as_json:
        yield Mistake("--json", "not with --page; leave one of them out")
    if "steps" in given:
        yield Mistake(
            f"steps={found.steps}", "no effect with --page, where tokens are chosen one by one; remove it"
        )
