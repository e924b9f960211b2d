"""CSV as spreadsheets write it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from harness.config.point import Prompts
from harness.errors import ConfigError
from harness.prompts.source import read_rows

ROWS = [["a", 'say "hi", please; or\tnot', "1,5"], ["b", "two\nlines", "x;y"]]


def spreadsheet(
    separator: str, line_end: str = "\r\n", header: tuple[str, ...] = ("id", "prompt", "reference")
) -> str:
    written = io.StringIO()
    writer = csv.writer(written, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([header, *ROWS])
    return written.getvalue()


def read(
    folder: Path, text: str, name: str = "mine.csv", **keys: str
) -> list[tuple[str, str | None, object]]:
    (folder / name).write_bytes(text.encode())
    rows = read_rows(Prompts(name="mine", file=str(folder / name), **keys))
    return [(row.where.rpartition(":")[2], row.prompt, row.fields["reference"]) for row in rows]


EXPECTED = [("2", ROWS[0][1], "1,5"), ("3", ROWS[1][1], "x;y")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
def test_the_separator_is_the_header_s(tmp_path: Path, separator: str, line_end: str) -> None:
    assert read(tmp_path, "\ufeff" + spreadsheet(separator, line_end)) == EXPECTED
    assert read(tmp_path, spreadsheet(separator, line_end), "mine.tsv") == EXPECTED


@pytest.mark.parametrize(
    ("separator", "line"), [(";", "sep=;"), ("|", "sep=|"), (",", '"sep=,"'), ("\t", "sep=\t")]
)
def test_a_separator_may_be_declared_as_excel_does(tmp_path: Path, separator: str, line: str) -> None:
    moved = [(str(int(place) + 1), *row) for place, *row in EXPECTED]
    assert read(tmp_path, f"{line}\r\n{spreadsheet(separator)}") == moved


def test_a_header_of_one_column_needs_no_separator(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt\nHello; you\nOnce\n")
    rows = read_rows(Prompts(name="mine", file=str(tmp_path / "p.csv")))
    assert [row.prompt for row in rows] == ["Hello; you", "Once"]


def test_columns_for_a_template_are_separated_too(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("name;topic\nAda;engines\n")
    (row,) = read_rows(
        Prompts(name="mine", file=str(tmp_path / "p.csv"), template="Tell {name} about {topic}.")
    )
    assert row.fields == {"name": "Ada", "topic": "engines"}


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("prompt;reference\na;b;c\n", "2", "has 3 values where the header names 2 columns"),
        ("sep=;\nprompt;prompt\na;b\n", "2", "names the column 'prompt' twice"),
        ('sep=;\nprompt;n\n"a;b\n', "3", "invalid CSV"),
        ('sep="\nprompt\na\n', "1", "cannot separate columns"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, text: str, where: str, said: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_rows(Prompts(name="mine", file=str(tmp_path / "p.csv")))
    (mistake,) = caught.value.mistakes
    assert str(mistake.key).rpartition(":")[2] == where
    assert said in mistake.message


ARRAY = [{"id": "a", "prompt": "Once"}, "Hello"]


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
@pytest.mark.parametrize(
    "text", [json.dumps(ARRAY, indent=2), "\ufeff" + json.dumps(ARRAY), "\n".join(map(json.dumps, ARRAY))]
)
def test_json_is_an_array_or_a_row_a_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    rows = read_rows(Prompts(name="mine", file=str(tmp_path / name)))
    assert [row.prompt for row in rows] == ["Once", "Hello"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[{"prompt": "a"},\n oops]',
            "begins as an array of rows, but is none: invalid JSON: Expecting value at line 2",
        ),
        (
            '{\n "data": []\n}',
            "holds one object over several lines; write an array of rows, or one row a line",
        ),
        ('["a", 3]', "row 2: must be a JSON object or a string"),
    ],
)
def test_json_that_holds_no_rows_says_so_once(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_rows(Prompts(name="mine", file=str(tmp_path / "p.json")))
    (mistake,) = caught.value.mistakes
    assert said in str(mistake)
