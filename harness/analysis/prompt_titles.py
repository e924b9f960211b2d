"""What a prompt is called in a list: the last message of its user, or where its text leaves off."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

LONGEST_TITLE = 120


@dataclass(frozen=True)
class Turn:
    """One message of a chat: `system`, `user`, `assistant` or `tool`, and its text."""

    role: str
    content: str


def turns_of(messages: str | None) -> tuple[Turn, ...]:
    """Return the turns of a chat prompt.

    Args:
        messages: column `messages` of generations.parquet, JSON; None for a prompt that is no chat.

    Returns:
        The turns, in order; the text of one without any is the JSON of its tool calls. None for a text.
    """
    try:
        turns = json.loads(messages or "[]")
    except ValueError:
        return ()
    return tuple(_turn(turn) for turn in turns if isinstance(turn, dict)) if isinstance(turns, list) else ()


def prompt_title(prompt: str, messages: str | None = None, longest: int = LONGEST_TITLE) -> str:
    """Return one line that names a prompt.

    Args:
        prompt: the text as the model got it.
        messages: its turns, as `turns_of` takes them.
        longest: characters of the title.

    Returns:
        Of a chat, the beginning of its user's last message; of a text, its end, from which the model goes on.
    """
    turns = turns_of(messages)
    asked = [turn.content for turn in turns if turn.role == "user"] or [turn.content for turn in turns]
    line = " ".join((asked[-1] if asked else prompt).split())
    if len(line) <= longest:
        return line
    return line[: longest - 1].rstrip() + "…" if asked else "…" + line[1 - longest :].lstrip()


def _turn(turn: dict[str, Any]) -> Turn:
    content = turn.get("content") or ""
    if not content and turn.get("tool_calls"):
        content = json.dumps(turn["tool_calls"], ensure_ascii=False)
    return Turn(str(turn.get("role") or ""), content if isinstance(content, str) else json.dumps(content))
