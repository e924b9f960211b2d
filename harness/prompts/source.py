"""Read prompts from inline items or a file into rows; every mistake is reported with its file and line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from harness.config.point import Prompts
from harness.config.user_path import user_path
from harness.errors import ConfigError, Mistake, first_line

FORMATS = (".txt", ".jsonl", ".csv", ".parquet")
ROLES = ("system", "user", "assistant", "tool")
_NOT_FIELDS = ("id", "prompt", "messages")
_ID_LENGTH = 100


@dataclass(frozen=True)
class PromptRow:
    """One row of a source, before any template.

    Attributes:
        id: given, or made from the row's content, so that adding other rows does not change it.
        where: file and line, or the index among the inline items; the key of mistakes in it.
        prompt: the text; None when the row holds `messages`, or when a template makes the text.
        messages: chat turns, each with `role` and `content`; None when the row holds a text.
        fields: its other columns, `reference` among them.
    """

    id: str
    where: str
    prompt: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return what a template can name: every field, `prompt` and `id`."""
        prompt = {"prompt": self.prompt} if self.prompt is not None else {}
        return {"id": self.id, **prompt, **self.fields}


_RawRow = tuple[str, Mapping[str, Any] | str]
"""A row of the source: where it is, and its columns or what is wrong with it."""


def read_rows(prompts: Prompts) -> list[PromptRow]:
    """Read a prompt set: `items` or `file`, at most `limit` rows.

    Without `template`, a row needs a `prompt` (text) or `messages` (chat turns; in .csv as JSON).

    Raises:
        ConfigError: every mistake found, each with its file and line.
    """
    source = _inline(prompts.items) if prompts.items is not None else _open(prompts.file or "")
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
    prompt, messages = columns.get("prompt"), columns.get("messages")
    row_id = _given_id(columns.get("id"))
    if prompt is not None and messages is not None:
        raise ValueError("holds both `prompt` and `messages`; keep one of them")
    turns = None if messages is None else _messages(messages)
    if prompt is None and messages is None and not templated:
        present = ", ".join(map(str, found)) or "nothing"
        raise ValueError(
            f"has no `prompt` and no `messages` (it has: {present}); rename one, or set prompts.template"
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


def _messages(value: Any) -> tuple[Mapping[str, str], ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("`messages` must be a list of turns (or that as JSON)") from None
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("`messages` must be a list of at least one turn")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping) or not {"role", "content"} <= set(turn):
            raise ValueError(f"turn {number} of `messages` needs `role` and `content`")
        if turn["role"] not in ROLES:
            raise ValueError(
                f"turn {number} of `messages` has role {turn['role']!r:.40}; roles are {', '.join(ROLES)}"
            )
        if not isinstance(turn["content"], str) or not turn["content"].strip():
            raise ValueError(f"turn {number} of `messages` is empty or not text")
        turns.append({"role": turn["role"], "content": turn["content"]})
    return tuple(turns)


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


def _inline(items: tuple[str | dict[str, Any], ...]) -> Iterator[_RawRow]:
    for index, item in enumerate(items):
        yield f"prompts.items[{index}]", {"prompt": item} if isinstance(item, str) else item


def _open(name: str) -> Iterator[_RawRow]:
    path = user_path("prompts.file", name)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ConfigError.of("prompts.file", f"{name}: unsupported file type; use {', '.join(FORMATS)}")
    if not path.is_file():
        problem = "is a folder; name a file in it" if path.is_dir() else "not found; check the path"
        raise ConfigError.of("prompts.file", f"{name} {problem} (looked in {path.parent.absolute()})")
    if kind == ".parquet":
        return _parquet(path, name)
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError.of("prompts.file", f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        problem = f"is not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        raise ConfigError.of(f"{name}:{line}", problem) from None
    return {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv}[kind](text, name)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # Not splitlines(): U+2028 and form feeds may be part of a prompt.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def _txt(text: str, name: str) -> Iterator[_RawRow]:
    for number, line in _lines(text):
        yield f"{name}:{number}", {"prompt": line}


def _jsonl(text: str, name: str) -> Iterator[_RawRow]:
    for number, line in _lines(text):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            found: dict[str, Any] | str = f"invalid JSON: {error.msg} at column {error.colno}"
        except (ValueError, RecursionError):
            found = "invalid JSON: nested too deeply"
        else:
            row = {"prompt": row} if isinstance(row, str) else row
            found = row if isinstance(row, dict) else "must be a JSON object or a string"
        yield f"{name}:{number}", found


def _csv(text: str, name: str) -> Iterator[_RawRow]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        if duplicates := [column for column, count in Counter(header).items() if count > 1]:
            yield f"{name}:1", f"names the column {duplicates[0]!r} twice"
            return
        line = reader.line_num + 1
        for values in reader:
            where, line = f"{name}:{line}", reader.line_num + 1
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                yield where, f"has {len(values)} values where the header names {len(header)} columns"
                continue
            columns = zip(header, values, strict=True)
            # An empty cell is a missing value, but an empty prompt is a mistake of its own.
            yield where, {key: value for key, value in columns if value or key == "prompt"}
    except csv.Error as error:
        yield f"{name}:{reader.line_num}", f"invalid CSV: {error}"


def _parquet(path: Path, name: str) -> Iterator[_RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        problem = f"{name} cannot be read as parquet: {first_line(error)}"
        raise ConfigError.of("prompts.file", problem) from None
    for number, columns in enumerate(table.to_pylist(), 1):
        yield f"{name} row {number}", columns
