"""Read prompts from inline items or a file into rows; every mistake is reported with its file and line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from harness.config.point import Prompts
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


@dataclass(frozen=True)
class _RawRow:
    """A row as it is in the source: its location, and its columns or what is wrong with it."""

    where: str
    columns: Mapping[str, Any]
    problem: str | None = None


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
    for raw in islice(source, prompts.limit):
        problem = raw.problem
        if problem is None:
            row, problem = _row(raw, templated=prompts.template is not None)
            if row is not None:
                rows.append(row)
        if problem is not None:
            mistakes.append(Mistake(raw.where, problem))
    if not rows and not mistakes:
        mistakes.append(Mistake(name, "holds no prompts; give at least one"))
    rows = _with_ids(rows)
    mistakes += _repeated(rows)
    if mistakes:
        raise ConfigError(mistakes)
    return rows


def _row(raw: _RawRow, *, templated: bool) -> tuple[PromptRow | None, str | None]:
    """Return the row, or what is wrong with it."""
    columns = {key: value for key, value in raw.columns.items() if value is not None}
    prompt, messages = columns.get("prompt"), columns.get("messages")
    try:
        given = _given_id(columns.get("id"))
        if prompt is not None and messages is not None:
            raise ValueError("holds both `prompt` and `messages`; keep one of them")
        if messages is not None:
            turns = _messages(messages)
        elif prompt is None and not templated:
            present = ", ".join(map(str, raw.columns)) or "nothing"
            raise ValueError(
                f"has no `prompt` and no `messages` (it has: {present}); rename one, or set prompts.template"
            )
        elif prompt is not None and not isinstance(prompt, str):
            raise ValueError(f"`prompt` must be text, not {type(prompt).__name__}: {prompt!r:.60}")
        elif prompt is not None and not prompt.strip() and not templated:
            raise ValueError("the prompt is empty; write one or take the row out")
        reference = columns.get("reference")
        if isinstance(reference, bool) or not isinstance(reference, str | int | float | None):
            raise ValueError(f"`reference` must be text, not {type(reference).__name__}: {reference!r:.60}")
    except ValueError as error:
        return None, str(error)
    fields = {str(key): value for key, value in columns.items() if key not in _NOT_FIELDS}
    row = PromptRow(given, raw.where, prompt, turns if messages is not None else None, fields)
    return row, None


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
    seen: Counter[str] = Counter()
    with_ids = []
    for row in rows:
        if not row.id:
            base = content_id(row)
            seen[base] += 1
            unique = base if seen[base] == 1 else f"{base}-{seen[base]}"
            while unique in taken:
                seen[base] += 1
                unique = f"{base}-{seen[base]}"
            taken.add(unique)
            row = PromptRow(unique, row.where, row.prompt, row.messages, row.fields)
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


def _repeated(rows: list[PromptRow]) -> list[Mistake]:
    first: dict[str, str] = {}
    mistakes = []
    for row in rows:
        if row.id in first:
            mistakes.append(
                Mistake(row.where, f"id {row.id!r} is taken already by {first[row.id]}; ids must differ")
            )
        first.setdefault(row.id, row.where)
    return mistakes


def _inline(items: tuple[str | dict[str, Any], ...]) -> Iterator[_RawRow]:
    for index, item in enumerate(items):
        columns = {"prompt": item} if isinstance(item, str) else item
        yield _RawRow(f"prompts.items[{index}]", columns)


def _open(name: str) -> Iterator[_RawRow]:
    path = Path(name).expanduser()
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
        raise ConfigError.of(
            f"{name}:{line}", f"is not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        ) from None
    return {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv}[kind](text, name)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # Not splitlines(): U+2028 and form feeds may be part of a prompt.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def _txt(text: str, name: str) -> Iterator[_RawRow]:
    for number, line in _lines(text):
        yield _RawRow(f"{name}:{number}", {"prompt": line})


def _jsonl(text: str, name: str) -> Iterator[_RawRow]:
    for number, line in _lines(text):
        where = f"{name}:{number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            detail = (
                f"{error.msg} at column {error.colno}"
                if isinstance(error, json.JSONDecodeError)
                else "nested too deeply"
            )
            yield _RawRow(where, {}, f"invalid JSON: {detail}")
            continue
        if isinstance(found, str):
            found = {"prompt": found}
        yield (
            _RawRow(where, found)
            if isinstance(found, dict)
            else _RawRow(where, {}, "must be a JSON object or a string")
        )


def _csv(text: str, name: str) -> Iterator[_RawRow]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [column.strip() for column in next(reader, [])]
        if duplicates := [column for column, count in Counter(header).items() if count > 1]:
            yield _RawRow(f"{name}:1", {}, f"names the column {duplicates[0]!r} twice")
            return
        line = reader.line_num + 1
        for values in reader:
            where, line = f"{name}:{line}", reader.line_num + 1
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                yield _RawRow(
                    where, {}, f"has {len(values)} values where the header names {len(header)} columns"
                )
                continue
            columns = dict(zip(header, values, strict=True))
            # An empty cell is a missing value, but an empty prompt is a mistake of its own.
            yield _RawRow(where, {key: value for key, value in columns.items() if value or key == "prompt"})
    except csv.Error as error:
        yield _RawRow(f"{name}:{reader.line_num}", {}, f"invalid CSV: {error}")
    finally:
        csv.field_size_limit(limit)


def _parquet(path: Path, name: str) -> Iterator[_RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError.of(
            "prompts.file", f"{name} cannot be read as parquet: {first_line(error)}"
        ) from None
    for number, columns in enumerate(table.to_pylist(), 1):
        yield _RawRow(f"{name} row {number}", columns)
