"""The arguments of `harness inspect`: its own keys, and overrides for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.cli.prompt_words import PromptArguments, prompt_words
from harness.errors import ConfigError, Mistake

_NUMBERS = ("steps", "top_k")
_TOP_K, _TOP_K_OF_A_PAGE = 10, 20


@dataclass
class InspectArguments(PromptArguments):
    """The prompt, steps and rows of the next-token table.

    `page` is the port of the page, 0 for any that is free; None where no page is asked for.
    """

    steps: int = 1
    top_k: int = _TOP_K
    as_json: bool = False
    page: int | None = None


def inspect_arguments(words: Sequence[str]) -> InspectArguments:
    """Parse the words after `inspect`.

    Raises:
        ConfigError: with every mistake in its own keys.
    """
    typed = prompt_words("inspect", words, ("--json", "--page"), _NUMBERS)
    mistakes = typed.mistakes
    found = InspectArguments(**typed.common, as_json="--json" in typed.flags)
    for key in _NUMBERS:
        value = typed.values.get(key, "1")
        if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= 1):
            mistakes.append(Mistake(f"{key}={value}", "must be a whole number from 1 to 999999999"))
        elif key in typed.values:
            setattr(found, key, int(value))
    if "--page" in typed.flags:
        given = typed.flags["--page"]
        found.page = 0 if given is None else _port(given)
        if found.page is None:
            problem = "must be a port from 1 to 65535; --page takes one that is free"
            mistakes.append(Mistake(f"--page={given}", problem))
        else:
            mistakes += _without_effect(found, "steps" in typed.values)
        if "top_k" not in typed.values:
            found.top_k = _TOP_K_OF_A_PAGE
    if mistakes:
        raise ConfigError(mistakes)
    return found


def _port(text: str) -> int | None:
    port = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    return port if 1 <= port <= 65535 else None


def _without_effect(found: InspectArguments, steps: bool) -> Iterator[Mistake]:
    """Yield what makes no sense beside `--page`."""
    if found.as_json:
        yield Mistake("--json", "not with --page; leave one of them out")
    if steps:
        yield Mistake(
            f"steps={found.steps}", "no effect with --page, where tokens are chosen one by one; remove it"
        )
