"""The arguments of `harness replay`: a stored point, and overrides of its decoding."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import ConfigError, Mistake

USE = "harness replay POINT decoding=top_p decoding.top_p=0.8"


@dataclass
class ReplayArguments:
    """What was asked.

    Attributes:
        point: a point's id, the beginning of one, or a label.
        as_json: for machines.
        overrides: of the decoding, composed by Hydra.
    """

    point: str = ""
    as_json: bool = False
    overrides: list[str] = field(default_factory=list)

    def on(self, made: Mapping[str, Any]) -> list[str]:
        """The overrides on top of the strategy that made the point, when they choose no other.

        Args:
            made: the keys of the point's decoding that are set, `name` among them.
        """
        if any(word.startswith("decoding=") for word in self.overrides):
            return self.overrides
        given = {word.partition("=")[0] for word in self.overrides}
        before = [
            f"decoding.{key}={json.dumps(value)}"
            for key, value in made.items()
            if key != "name" and f"decoding.{key}" not in given
        ]
        return [*before, *self.overrides]


def replay_arguments(words: Sequence[str]) -> ReplayArguments:
    """Read the words after `replay`.

    Raises:
        ConfigError: with every mistake among them that needs no composing.
    """
    found = ReplayArguments()
    mistakes: list[Mistake] = []
    for place, word in enumerate(words):
        if word == "--json":
            found.as_json = True
        elif word.startswith("-") or (place and words[place - 1] in ("--config-dir", "-cd")):
            found.overrides.append(word)
        elif not found.point and not _is_override(word):
            found.point = word
        elif not _is_override(word):
            mistakes.append(Mistake(word, f"one point at a time; quote a label that holds a space: {USE}"))
        elif word.lstrip("+~").partition("=")[0].partition(".")[0] != "decoding":
            mistakes.append(Mistake(word, f"replay changes the decoding only; leave it out: {USE}"))
        else:
            found.overrides.append(word)
    if not found.point:
        mistakes.append(Mistake("replay", f"which point? Give its id or label: {USE}"))
    elif not mistakes and not any(_is_override(word) for word in found.overrides):
        mistakes.append(Mistake("replay", f"say with which decoding: {USE}"))
    if mistakes:
        raise ConfigError(mistakes)
    return found


def _is_override(word: str) -> bool:
    """Whether it is `key=value`; a label may hold `key=value` too, behind its choices and a space."""
    key, equals, _ = word.partition("=")
    return bool(equals) and " " not in key and "/" not in key
