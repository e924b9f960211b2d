"""The turns of a chat, as people's files write them: OpenAI's `messages` and ShareGPT's `conversations`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.text_file import not_unicode
from harness.prompts.json_text import parse_json

Turn = Mapping[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")

_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "observation": "tool",
}
_TEXT_PARTS = ("text", "input_text", "output_text")


def chat_turns(value: Any, name: str = "messages") -> tuple[Turn, ...]:
    """Return the turns of a chat, each with `role`, `content` and what else the row says of it.

    Args:
        value: a list of turns, or that as JSON. A turn has `role` and `content`, or ShareGPT's `from` and
            `value`; a content that is a list of text parts becomes their text.
        name: the column that holds it.

    Raises:
        ValueError: something is wrong with it.
    """
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            raise ValueError(f"`{name}` must be a list of turns (or that as JSON): {error}") from None
        if found := _not_unicode(value):
            raise ValueError(f"`{name}` holds {found}, which is no Unicode text; take it out")
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"`{name}` must be a list of at least one turn")
    return tuple(_turn(f"turn {number} of `{name}`", turn) for number, turn in enumerate(value, 1))


def conversation(value: Any) -> tuple[tuple[Turn, ...], str | None]:
    """Return the turns of a ShareGPT conversation, and the answer that it ends with, if it does.

    Such files hold whole conversations: what the model is to answer is all before the last answer, which is
    what an answer can be compared with.

    Raises:
        ValueError: something is wrong with it.
    """
    turns = chat_turns(value, "conversations")
    if turns[-1]["role"] != "assistant":
        return turns, None
    if len(turns) == 1:
        raise ValueError("`conversations` holds an answer alone; nothing is left to ask")
    return turns[:-1], turns[-1]["content"]


def known_roles(turns: Sequence[Turn], chat_template: Any) -> list[Turn]:
    """Return the turns with `system` for `developer` where the template does not name that role.

    It is OpenAI's newer name for the same thing, which few templates know.
    """
    if "developer" in str(chat_template):
        return list(turns)
    return [turn | {"role": "system"} if turn["role"] == "developer" else turn for turn in map(dict, turns)]


def _turn(where: str, turn: Any) -> Turn:
    """Return a turn's role, content, and what else is said of it."""
    given = dict(turn) if isinstance(turn, Mapping) else {}
    given = {key: value for key, value in given.items() if value is not None}
    if "from" in given and "role" not in given:
        speaker = given.pop("from")
        role = _SHAREGPT_ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
        if role is None:
            known = ", ".join(_SHAREGPT_ROLES)
            raise ValueError(f"{where} is from {speaker!r:.40}; it can be from {known}")
        given = {"role": role, "content": given.pop("value", None), **given}
    more = {str(key): value for key, value in given.items() if key not in ("role", "content") and value != []}
    # A call of a tool needs no text.
    content = given.get("content", "" if "tool_calls" in more else None)
    if "role" not in given or content is None:
        raise ValueError(f"{where} needs `role` and `content`")
    if given["role"] not in ROLES:
        raise ValueError(f"{where} has role {given['role']!r:.40}; roles are {', '.join(ROLES)}")
    if isinstance(content, list | tuple):
        content = "".join(_part(where, part) for part in content)
    if not isinstance(content, str) or not (content.strip() or "tool_calls" in more):
        raise ValueError(f"{where} is empty or not text")
    return {"role": given["role"], "content": content, **more}


def _part(where: str, part: Any) -> str:
    """Return the text of one part of a content."""
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind not in _TEXT_PARTS or not isinstance(text, str):
        what = f"a part of type {kind!r:.40}" if kind not in _TEXT_PARTS else "a text part without `text`"
        raise ValueError(f"{where} has {what}; a prompt is text here: keep text parts only")
    return text


def _not_unicode(value: Any) -> str | None:
    """Return what of a value from JSON, however nested, is no Unicode."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and (found := not_unicode(one)):
            return found
        if isinstance(one, Mapping):
            waiting += [part for item in one.items() for part in item]
        elif isinstance(one, list | tuple):
            waiting += one
    return None
