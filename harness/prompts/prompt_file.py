"""Files of prompts (.txt, .jsonl, .csv, .parquet): rows, each with its place or what is wrong with it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.config.suggest import similar_path
from harness.config.text_file import read_text
from harness.config.user_path import user_path
from harness.errors import ConfigError, first_line

RawRow = tuple[str, Mapping[str, Any] | str]
"""A row of a source: where it is, and its columns or what is wrong with it."""

LINE_LIKE = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters that some editors show as a line end; they are part of a prompt here."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_BOM = "\ufeff"


def read_file(name: str) -> Iterator[RawRow]:
    """Return the rows of a file; its extension says what it is.

    Raises:
        ConfigError: there is no such file, it cannot be read, or is not UTF-8.
    """
    path = user_path("prompts.file", name)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        near = "" if path.exists() else similar_path(name)
        cure = near or f"; use {', '.join(FORMATS)}"
        raise ConfigError.of("prompts.file", f"{name}: unsupported file type{cure}")
    if not path.is_file():
        missing = f"not found{similar_path(name) or '; check the path'}"
        problem = "is a folder; name a file in it" if path.is_dir() else missing
        raise ConfigError.of("prompts.file", f"{name} {problem} (looked in {path.parent.absolute()})")
    if kind == ".parquet":
        return _parquet(path, name)
    return _TEXT_FORMATS[kind](read_text(name, "prompts.file"), name)


def parse_json(text: str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is not JSON, or an object has a key twice; the message says which.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"invalid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("invalid JSON: nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"invalid JSON: the key {twice!r:.60} is given twice; keep one")
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, and their numbers.

    Not by splitlines(): U+2028 and form feeds may be part of a prompt. A byte order mark at the start of a
    line comes from files that were joined.
    """
    for number, line in enumerate(_LINE_END.split(text), 1):
        line = line.removeprefix(_BOM)
        if line.strip():
            yield number, line


def _txt(text: str, name: str) -> Iterator[RawRow]:
    for number, line in _lines(text):
        yield f"{name}:{number}", {"prompt": line}


def _jsonl(text: str, name: str) -> Iterator[RawRow]:
    for number, line in _lines(text):
        try:
            row = parse_json(line)
        except ValueError as error:
            found: dict[str, Any] | str = first_line(error)
        else:
            row = {"prompt": row} if isinstance(row, str) else row
            found = row if isinstance(row, dict) else "must be a JSON object or a string"
        yield f"{name}:{number}", found


def _csv(text: str, name: str) -> Iterator[RawRow]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        if duplicates := _duplicates(header):
            yield f"{name}:1", f"names the column {duplicates[0]!r:.60} twice"
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


def _parquet(path: Path, name: str) -> Iterator[RawRow]:
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
    except Exception as error:  # a damaged file raises whatever its decoder meets
        problem = f"{name} cannot be read as parquet: {first_line(error)}"
        raise ConfigError.of("prompts.file", problem) from None
    if duplicates := _duplicates(table.column_names):
        yield name, f"names the column {duplicates[0]!r:.60} twice"
        return
    for number in range(table.num_rows):
        where = f"{name} row {number + 1}"
        try:
            yield where, table.slice(number, 1).to_pylist()[0]
        except Exception as error:  # as above, and dates that Python does not have
            yield where, f"cannot be read: {first_line(error)}"


def _duplicates(columns: list[str]) -> list[str]:
    return [column for column, count in Counter(columns).items() if count > 1]


_TEXT_FORMATS = {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv}
FORMATS = (*_TEXT_FORMATS, ".parquet")
