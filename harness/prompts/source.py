"""Read prompts from inline items or a file into rows; every mistake is reported with its file and line."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any

from harness.config.point import Prompts
from harness.config.text_file import not_unicode
from harness.errors import ConfigError, Mistake
from harness.prompts.prompt_file import LINE_LIKE, RawRow, read_file
from harness.prompts.turns import chat_turns, conversation

_NOT_FIELDS = ("id", "prompt", "messages", "conversations")
_ID_LENGTH = 100
_DEEPEST = 100  # levels of a value; far below what JSON and recursion allow


@dataclass(frozen=True)
class PromptRow:
    """One row of a source, before any template.

    Attributes:
        id: given, or made from the row's content, so that adding other rows does not change it.
        where: file and line, or the index among the inline items; the key of mistakes in it.
        prompt: the text; None when the row holds `messages`, or when a template makes the text.
        messages: chat turns, each with `role`, `content` and what else the row says of it (`tool_calls`);
            None when the row holds a text.
        fields: its other columns, `reference` among them.
    """

    id: str
    where: str
    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return what a template can name: every field, `prompt` and `id`."""
        prompt = {"prompt": self.prompt} if self.prompt is not None else {}
        return {"id": self.id, **prompt, **self.fields}


def read_rows(prompts: Prompts) -> list[PromptRow]:
    """Read a prompt set: `items` or `file`, at most `limit` rows.

    Without `template`, a row needs a `prompt` (text), `messages` (chat turns; in .csv as JSON) or ShareGPT's
    `conversations`, of which a last answer becomes the `reference`.

    Raises:
        ConfigError: every mistake found, each with its file and line.
    """
    source = _inline(prompts.items) if prompts.items is not None else read_file(prompts.file or "")
    name = "prompts.items" if prompts.items is not None else str(prompts.file)
    mistakes: list[Mistake] = []
    rows: list[PromptRow] = []
    for where, found in islice(source, prompts.limit):
        try:
            rows.append(_row(where, found, templated=prompts.template is not None))
        except ValueError as error:
            mistakes.append(Mistake(where, str(error)))
    if not rows and not mistakes:
        mistakes.append(Mistake(name, "holds no prompts; give at least one"))
    rows = _with_ids(rows)
    first = {row.id: row.where for row in reversed(rows)}
    mistakes += [
        Mistake(row.where, f"id {row.id!r} is taken already by {first[row.id]}; ids must differ")
        for row in rows
        if row.where != first[row.id]
    ]
    if mistakes:
        raise ConfigError(mistakes)
    return rows


def _row(where: str, found: Mapping[str, Any] | str, *, templated: bool) -> PromptRow:
    """Return the row.

    Raises:
        ValueError: something is wrong with it.
    """
    if isinstance(found, str):
        raise ValueError(found)
    columns = {key: value for key, value in found.items() if value is not None}
    for key, value in columns.items():
        _check_value(f"`{key!s:.60}`", [key, value])
    prompt, messages = columns.get("prompt"), columns.get("messages")
    row_id = _given_id(columns.get("id"))
    asked = [key for key in ("prompt", "messages", "conversations") if key in columns]
    if len(asked) > 1:
        raise ValueError(f"holds both `{asked[0]}` and `{asked[1]}`; keep one of them")
    turns = None if messages is None else chat_turns(messages)
    if "conversations" in columns:
        turns, answer = conversation(columns["conversations"])
        if answer is not None:
            columns.setdefault("reference", answer)
    if not asked and not templated:
        present = ", ".join(map(str, found)) or "nothing"
        raise ValueError(
            f"has no `prompt` and no `messages` (it has: {present:.200}); rename one, or set prompts.template"
        )
    if not isinstance(prompt, str | None):
        raise ValueError(f"`prompt` must be text, not {type(prompt).__name__}: {prompt!r:.60}")
    if prompt is not None and not prompt.strip() and not templated:
        raise ValueError("the prompt is empty; write one or take the row out")
    reference = columns.get("reference")
    if isinstance(reference, bool) or not isinstance(reference, str | int | float | None):
        raise ValueError(f"`reference` must be text, not {type(reference).__name__}: {reference!r:.60}")
    fields = {str(key): value for key, value in columns.items() if key not in _NOT_FIELDS}
    return PromptRow(row_id, where, prompt, turns, fields)


def _check_value(name: str, value: Any) -> None:
    """Raise a ValueError where a value, however nested, cannot be stored as it is."""
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, str) and (found := not_unicode(one)):
            raise ValueError(f"{name} holds {found}, which is no Unicode text; take it out")
        if depth > _DEEPEST:
            raise ValueError(f"{name} is nested more than {_DEEPEST} levels deep; make it flatter")
        if isinstance(one, Mapping):
            if len({isinstance(key, str) for key in one}) > 1:
                raise ValueError(f"{name} has both texts and numbers as keys; quote the numbers")
            waiting += [(part, depth + 1) for item in one.items() for part in item]
        elif isinstance(one, list | tuple):
            waiting += [(part, depth + 1) for part in one]


def _given_id(value: Any) -> str:
    """Return the row's id as text; empty when it has none."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"`id` must be text or a whole number, not {value!r:.60}")
    text = str(value).strip()
    if not text or len(text) > _ID_LENGTH or not text.isprintable():
        raise ValueError(f"`id` must be 1 to {_ID_LENGTH} printable characters, not {text!r:.60}")
    return text


def _with_ids(rows: list[PromptRow]) -> list[PromptRow]:
    """Give the rows without an id one made from their content; equal rows get -2, -3, ... in order."""
    taken = {row.id for row in rows if row.id}
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: count(2))
    with_ids = []
    for row in rows:
        if not row.id:
            unique = base = content_id(row)
            while unique in taken:
                unique = f"{base}-{next(numbers[base])}"
            taken.add(unique)
            row = replace(row, id=unique)
        with_ids.append(row)
    return with_ids


def content_id(row: PromptRow) -> str:
    """Return a short readable id that depends on the row's content only: `a-list-of-colors-1f2a`.

    The `reference` does not count, because the samples do not depend on it.
    """
    fields = {key: value for key, value in row.fields.items() if key != "reference"}
    content = json.dumps([row.prompt, row.messages, fields], sort_keys=True, ensure_ascii=False, default=str)
    digest = hashlib.sha256(content.encode("utf-8", errors="surrogatepass")).hexdigest()
    words = row.prompt or (
        row.messages[-1]["content"] if row.messages else " ".join(map(str, row.fields.values()))
    )
    plain = unicodedata.normalize("NFKD", words[:200]).encode("ascii", "ignore").decode().lower()
    slug = ""
    for word in re.findall(r"[a-z0-9]+", plain):
        if len(slug) + len(word) > 20:
            break
        slug += word + "-"
    return slug + digest[:4] if slug else "p-" + digest[:8]


def line_end_warnings(prompts: Prompts, rows: Sequence[PromptRow]) -> Iterator[str]:
    """Yield a warning for each prompt of a .txt file that some editors would show as several lines."""
    if str(prompts.file).lower().endswith(".txt"):
        for row in rows:
            for char in sorted(set(row.prompt or "").intersection(LINE_LIKE)):
                yield (
                    f"{row.where}: U+{ord(char):04X} looks like a line end but is part of the prompt: "
                    "prompts of a .txt file are separated by LF, CRLF or CR"
                )


def _inline(items: tuple[str | dict[str, Any], ...]) -> Iterator[RawRow]:
    for index, item in enumerate(items):
        yield f"prompts.items[{index}]", {"prompt": item} if isinstance(item, str) else item
