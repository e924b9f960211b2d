"""Rows of a CSV file, as spreadsheets write it: with commas, semicolons or tabs, and Excel's `sep=` line."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?(\r\n|\r|\n|$)')
_SEPARATORS = ",;\t"


def csv_rows(text: str, name: str) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    """Yield the rows of a CSV file, each with its place and its columns or what is wrong with it."""
    csv.field_size_limit(2**31 - 1)
    declared = _SEPARATOR_LINE.match(text)
    skipped = 1 if declared else 0
    text = text[declared.end() :] if declared else text
    separator = declared[1] if declared else _separator(text)
    if (not separator.isprintable() and separator != "\t") or separator in '" ':
        yield f"{name}:1", f"sep={separator!r:.10} cannot separate columns; use a comma, semicolon or tab"
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        header = [column.strip() for column in next(reader, [])]
        if duplicates := duplicated(header):
            yield f"{name}:{skipped + 1}", f"names the column {duplicates[0]!r:.60} twice"
            return
        line = reader.line_num + 1
        for values in reader:
            where, line = f"{name}:{skipped + line}", reader.line_num + 1
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                yield where, f"has {len(values)} values where the header names {len(header)} columns"
                continue
            columns = zip(header, values, strict=True)
            # An empty cell is a missing value, but an empty prompt is a mistake of its own.
            yield where, {key: value for key, value in columns if value or key == "prompt"}
    except csv.Error as error:
        yield f"{name}:{skipped + reader.line_num}", f"invalid CSV: {error}"


def duplicated(columns: Sequence[str]) -> list[str]:
    """Return the columns that are named more than once."""
    return [column for column, count in Counter(columns).items() if count > 1]


def _separator(text: str) -> str:
    """Return what separates the header's columns: the comma, unless another one makes more of them."""
    counts = {one: len(_header(text, one)) for one in _SEPARATORS}
    named = [one for one in _SEPARATORS if {"prompt", "messages"} & set(_header(text, one))]
    return max(named or _SEPARATORS, key=counts.__getitem__)


def _header(text: str, separator: str) -> list[str]:
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator), [])
    except csv.Error:
        return []
    return [column.strip() for column in first]
