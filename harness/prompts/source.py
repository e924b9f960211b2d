"""Where prompts come from: inline items or a file, read into rows; every mistake with its file and line."""

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
from harness.errors import ConfigError, Mistake

FORMATS = (".txt", ".jsonl", ".csv", ".parquet")
ROLES = ("system", "user", "assistant", "tool")
_NOT_FIELDS = ("id", "prompt", "messages")
_ID_LENGTH = 100


@dataclass(frozen=True)
class Row:
    """One row of a source, before any template.

    Attributes:
        id: given, or made from the row's content, so that rows elsewhere do not change it.
        where: file and line, or the place among the inline items, for messages.
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
        """What a template can name: every field, `prompt` and `id`."""
        own = {"prompt": self.prompt} if self.prompt is not None else {}
        return {"id": self.id, **own, **self.fields}


@dataclass(frozen=True)
class _Raw:
    """A row as the source has it: where it stands, and its columns, or what is wrong with it."""

    where: str
    columns: Mapping[str, Any]
    problem: str | None = None


def read_rows(prompts: Prompts) -> list[Row]:
    """Read a prompt set: `items` or `file`, at most `limit` rows.

    Without `template`, a row needs a `prompt` (text) or `messages` (chat turns; in .csv as JSON).

    Raises:
        ConfigError: every mistake found, each with its file and line.
    """
    if (prompts.items is None) == (prompts.file is None):
        raise ConfigError.of(
            "prompts",
            "needs its prompts from either `items` or `file`, "
            + ("not both" if prompts.file else "one of them"),
        )
    source = _inline(prompts.items) if prompts.items is not None else _open(prompts.file or "")
    name = "prompts.items" if prompts.items is not None else str(prompts.file)
    mistakes: list[Mistake] = []
    rows: list[Row] = []
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


def _row(raw: _Raw, *, templated: bool) -> tuple[Row | None, str | None]:
    """The row, or what is wrong with it."""
    columns = {key: value for key, value in raw.columns.items() if value is not None}
    prompt, messages = columns.get("prompt"), columns.get("messages")
    try:
        given = _given_id(columns.get("id"))
        if prompt is not None and messages is not None:
            raise ValueError("holds both `prompt` and `messages`; keep one of them")
        if messages is not None:
            turns = _messages(messages)
        elif prompt is None and not templated:
            there = ", ".join(map(str, raw.columns)) or "nothing"
            raise ValueError(
                f"has no `prompt` and no `messages` (it has: {there}); name one so, or set prompts.template"
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
    row = Row(given, raw.where, prompt, turns if messages is not None else None, fields)
    return row, None


def _given_id(value: Any) -> str:
    """The row's own id as text; empty when it has none."""
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
    for place, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping) or not {"role", "content"} <= set(turn):
            raise ValueError(f"turn {place} of `messages` needs `role` and `content`")
        if turn["role"] not in ROLES:
            raise ValueError(
                f"turn {place} of `messages` has role {turn['role']!r:.40}; roles are {', '.join(ROLES)}"
            )
        if not isinstance(turn["content"], str) or not turn["content"].strip():
            raise ValueError(f"turn {place} of `messages` is empty or no text")
        turns.append({"role": turn["role"], "content": turn["content"]})
    return tuple(turns)


def _with_ids(rows: list[Row]) -> list[Row]:
    """Give the rows without an id one made from their content; equal rows get -2, -3, ... in order."""
    taken = {row.id for row in rows if row.id}
    seen: Counter[str] = Counter()
    done = []
    for row in rows:
        if not row.id:
            made = content_id(row)
            seen[made] += 1
            unique = made if seen[made] == 1 else f"{made}-{seen[made]}"
            while unique in taken:
                seen[made] += 1
                unique = f"{made}-{seen[made]}"
            taken.add(unique)
            row = Row(unique, row.where, row.prompt, row.messages, row.fields)
        done.append(row)
    return done


def content_id(row: Row) -> str:
    """A short readable id that depends on nothing but the row's content: `a-list-of-colors-1f2a`.

    What a text is held against is not part of it: another `reference` leaves the samples what they are.
    """
    fields = {key: value for key, value in row.fields.items() if key != "reference"}
    told = json.dumps([row.prompt, row.messages, fields], sort_keys=True, ensure_ascii=False, default=str)
    digest = hashlib.sha256(told.encode("utf-8", errors="surrogatepass")).hexdigest()
    said = row.prompt or (
        row.messages[-1]["content"] if row.messages else " ".join(map(str, row.fields.values()))
    )
    plain = unicodedata.normalize("NFKD", said[:200]).encode("ascii", "ignore").decode().lower()
    slug = ""
    for word in re.findall(r"[a-z0-9]+", plain):
        if len(slug) + len(word) > 20:
            break
        slug += word + "-"
    return slug + digest[:4] if slug else "p-" + digest[:8]


def _repeated(rows: list[Row]) -> list[Mistake]:
    first: dict[str, str] = {}
    mistakes = []
    for row in rows:
        if row.id in first:
            mistakes.append(
                Mistake(row.where, f"id {row.id!r} is taken already by {first[row.id]}; ids must differ")
            )
        first.setdefault(row.id, row.where)
    return mistakes


def _inline(items: tuple[str | dict[str, Any], ...]) -> Iterator[_Raw]:
    for place, item in enumerate(items):
        columns = {"prompt": item} if isinstance(item, str) else item
        yield _Raw(f"prompts.items[{place}]", columns)


def _open(name: str) -> Iterator[_Raw]:
    path = Path(name).expanduser()
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ConfigError.of("prompts.file", f"{name} is of no known kind; use {', '.join(FORMATS)}")
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "is not there"
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
    # Not splitlines(): U+2028 and form feeds may stand inside a prompt.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def _txt(text: str, name: str) -> Iterator[_Raw]:
    for number, line in _lines(text):
        yield _Raw(f"{name}:{number}", {"prompt": line})


def _jsonl(text: str, name: str) -> Iterator[_Raw]:
    for number, line in _lines(text):
        where = f"{name}:{number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            told = (
                f"{error.msg} at column {error.colno}"
                if isinstance(error, json.JSONDecodeError)
                else "too deep"
            )
            yield _Raw(where, {}, f"is no JSON: {told}")
            continue
        if isinstance(found, str):
            found = {"prompt": found}
        yield (
            _Raw(where, found)
            if isinstance(found, dict)
            else _Raw(where, {}, "must be a JSON object or a string")
        )


def _csv(text: str, name: str) -> Iterator[_Raw]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [column.strip() for column in next(reader, [])]
        if doubled := [column for column, count in Counter(header).items() if count > 1]:
            yield _Raw(f"{name}:1", {}, f"names the column {doubled[0]!r} twice")
            return
        line = reader.line_num + 1
        for values in reader:
            where, line = f"{name}:{line}", reader.line_num + 1
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                yield _Raw(
                    where, {}, f"has {len(values)} values where the header names {len(header)} columns"
                )
                continue
            columns = dict(zip(header, values, strict=True))
            # An empty cell is a missing value, but an empty prompt is a mistake to be told as such.
            yield _Raw(where, {key: value for key, value in columns.items() if value or key == "prompt"})
    except csv.Error as error:
        yield _Raw(f"{name}:{reader.line_num}", {}, f"is no CSV: {error}")
    finally:
        csv.field_size_limit(limit)


def _parquet(path: Path, name: str) -> Iterator[_Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        line = str(error).splitlines()[0]
        raise ConfigError.of("prompts.file", f"{name} cannot be read as parquet: {line}") from None
    for place, columns in enumerate(table.to_pylist(), 1):
        yield _Raw(f"{name} row {place}", columns)
