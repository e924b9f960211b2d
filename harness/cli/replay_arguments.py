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
    """The point by its id, the beginning of an id, or its label; and overrides of the decoding for Hydra."""

    point: str = ""
    as_json: bool = False
    overrides: list[str] = field(default_factory=list)

    def applied_to(self, requested: Mapping[str, Any]) -> list[str]:
        """Return the overrides, applied to the point's own strategy unless they choose another.

        Args:
            requested: the keys that the point's decoding sets, `name` among them.
        """
        if any(word.startswith("decoding=") for word in self.overrides):
            return self.overrides
        given = {word.partition("=")[0] for word in self.overrides}
        strategy = [
            f"decoding.{key}={json.dumps(value)}"
            for key, value in requested.items()
            if key != "name" and f"decoding.{key}" not in given
        ]
        return [*strategy, *self.overrides]


def replay_arguments(words: Sequence[str]) -> ReplayArguments:
    """Parse the words after `replay`.

    Raises:
        ConfigError: with every mistake that is found without composing.
    """
    found = ReplayArguments()
    mistakes: list[Mistake] = []
    for index, word in enumerate(words):
        if word == "--json":
            found.as_json = True
        elif word.startswith("-") or (index and words[index - 1] in ("--config-dir", "-cd")):
            found.overrides.append(word)
        elif not found.point and not _is_override(word):
            found.point = word
        elif not _is_override(word):
            mistakes.append(Mistake(word, f"one point at a time; quote a label containing a space: {USE}"))
        elif word.lstrip("+~").partition("=")[0].partition(".")[0] != "decoding":
            mistakes.append(Mistake(word, f"replay changes the decoding only; remove it: {USE}"))
        else:
            found.overrides.append(word)
    if not found.point:
        mistakes.append(Mistake("replay", f"no point given; give its id or label: {USE}"))
    elif not mistakes and not any(_is_override(word) for word in found.overrides):
        mistakes.append(Mistake("replay", f"no decoding given: {USE}"))
    if mistakes:
        raise ConfigError(mistakes)
    return found


def _is_override(word: str) -> bool:
    """Whether it is `key=value`; a label may contain `key=value` too, after its choices and a space."""
    key, equals, _ = word.partition("=")
    return bool(equals) and " " not in key and "/" not in key
