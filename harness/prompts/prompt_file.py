"""Files of prompts: rows, each with its place or what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.config.suggest import similar_path
from harness.config.text_file import read_text
from harness.config.user_path import user_path
from harness.errors import ConfigError, first_line
from harness.prompts.csv_rows import csv_rows, duplicated
from harness.prompts.json_text import parse_json

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


def _json(text: str, name: str) -> Iterator[RawRow]:
    """Yield the rows of one array, or one row a line."""
    if text.lstrip().startswith("["):
        yield from _json_array(text, name)
        return
    if _is_one_object(text):
        yield name, "holds one object over several lines; write an array of rows, or one row a line"
        return
    for number, line in _lines(text):
        try:
            found = _json_row(parse_json(line))
        except ValueError as error:
            found = first_line(error)
        yield f"{name}:{number}", found


def _json_array(text: str, name: str) -> Iterator[RawRow]:
    try:
        rows = parse_json(text)
    except ValueError as error:
        yield name, f"begins as an array of rows, but is none: {first_line(error)}"
        return
    for number, row in enumerate(rows, 1):
        yield f"{name} row {number}", _json_row(row)


def _is_one_object(text: str) -> bool:
    first = next((line for _, line in _lines(text)), "")
    try:
        return first.strip() in ("{", "{}") and isinstance(parse_json(text), dict)
    except ValueError:
        return False


def _json_row(value: Any) -> Mapping[str, Any] | str:
    row = {"prompt": value} if isinstance(value, str) else value
    return row if isinstance(row, dict) else "must be a JSON object or a string"


def _parquet(path: Path, name: str) -> Iterator[RawRow]:
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
    except Exception as error:  # a damaged file raises whatever its decoder meets
        problem = f"{name} cannot be read as parquet: {first_line(error)}"
        raise ConfigError.of("prompts.file", problem) from None
    if duplicates := duplicated(table.column_names):
        yield name, f"names the column {duplicates[0]!r:.60} twice"
        return
    for number in range(table.num_rows):
        where = f"{name} row {number + 1}"
        try:
            yield where, table.slice(number, 1).to_pylist()[0]
        except Exception as error:  # as above, and dates that Python does not have
            yield where, f"cannot be read: {first_line(error)}"


_TEXT_FORMATS = {".txt": _txt, ".jsonl": _json, ".json": _json, ".csv": csv_rows, ".tsv": csv_rows}
FORMATS = (*_TEXT_FORMATS, ".parquet")
