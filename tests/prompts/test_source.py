"""Reading prompt sets: every format, stable ids, and every mistake with its file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.point import Prompts
from harness.errors import ConfigError
from harness.prompts.source import PromptRow, content_id, read_rows


def prompts(**keys: Any) -> Prompts:
    return Prompts(name="mine", **keys)


def mistakes(**keys: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_rows(prompts(**keys))
    assert all("\n" not in str(mistake) for mistake in caught.value.mistakes)
    return [str(mistake) for mistake in caught.value.mistakes]


def write(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_inline_strings_and_mappings() -> None:
    rows = read_rows(prompts(items=("Hello", {"id": "b", "prompt": "World", "reference": "!", "n": 3})))
    assert [row.prompt for row in rows] == ["Hello", "World"]
    assert rows[1].id == "b"
    assert rows[1].fields == {"reference": "!", "n": 3}


def test_txt_skips_blank_lines_and_keeps_spaces_and_line_numbers(tmp_path: Path) -> None:
    name = write(tmp_path, "a.txt", "\ufeffone\r\n\n   \n two \u2028 half\n")
    rows = read_rows(prompts(file=name))
    assert [row.prompt for row in rows] == ["one", " two \u2028 half"]
    assert [row.where.rpartition(":")[2] for row in rows] == ["1", "4"]


def test_jsonl_csv_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = [
        {"id": "a", "prompt": 'say "hi",\nplease', "reference": "hi"},
        {"id": "b", "prompt": "café", "reference": "x"},
    ]
    jsonl = write(tmp_path, "p.jsonl", "\n".join(json.dumps(row) for row in table))
    quoted = 'id,prompt,reference\na,"say ""hi"",\nplease",hi\n\nb,café,x\n'
    csv = write(tmp_path, "p.csv", quoted)
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "p.parquet")
    read = [read_rows(prompts(file=name)) for name in (jsonl, csv, str(tmp_path / "p.parquet"))]
    plain = [[(row.id, row.prompt, row.fields) for row in rows] for rows in read]
    assert plain[0] == plain[1] == plain[2]
    assert plain[0][0] == ("a", 'say "hi",\nplease', {"reference": "hi"})
    assert [row.where.rpartition(":")[2] for row in read[1]] == ["2", "5"]


def test_messages_from_jsonl_csv_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns = [{"role": "user", "content": "How many?"}]
    jsonl = write(tmp_path, "p.jsonl", json.dumps({"messages": turns}))
    csv = write(tmp_path, "p.csv", 'messages\n"' + json.dumps(turns).replace('"', '""') + '"\n')
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), tmp_path / "p.parquet")
    for name in (jsonl, csv, str(tmp_path / "p.parquet")):
        (row,) = read_rows(prompts(file=name))
        assert row.messages == tuple(turns)
        assert row.prompt is None
        assert row.id.startswith("how-many-")


def test_generated_ids_do_not_change_when_other_rows_are_added() -> None:
    before = {
        row.prompt: row.id for row in read_rows(prompts(items=("A list of colors: red", "Zwölf", "日本")))
    }
    after = {
        row.prompt: row.id
        for row in read_rows(prompts(items=("new", "日本", "Zwölf", "A list of colors: red")))
    }
    assert all(after[text] == row_id for text, row_id in before.items())
    assert before["A list of colors: red"].startswith("a-list-of-colors-")
    assert len(set(after.values())) == 4


def test_equal_rows_get_different_ids_and_given_ones_are_respected() -> None:
    base = content_id(PromptRow("", "", "same"))
    rows = read_rows(prompts(items=("same", "same", {"id": f"{base}-2", "prompt": "other"})))
    assert [row.id for row in rows] == [base, f"{base}-3", f"{base}-2"]


def test_limit_takes_the_first_rows_and_reads_no_further(tmp_path: Path) -> None:
    name = write(tmp_path, "p.jsonl", '{"prompt": "a"}\n{"prompt": "b"}\nbroken\n')
    assert [row.prompt for row in read_rows(prompts(file=name, limit=2))] == ["a", "b"]


def test_a_template_needs_no_prompt_column() -> None:
    (row,) = read_rows(prompts(items=({"topic": "rain"},), template="About {topic}:"))
    assert row.prompt is None
    assert row.values() == {"id": row.id, "topic": "rain"}


def test_every_mistake_of_a_file_is_reported_with_its_line(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "fine", "id": "a"}',
        '{"prompt": "cut',
        "[1]",
        '{"text": "x", "answer": "y"}',
        '{"prompt": "  "}',
        '{"prompt": 3}',
        '{"prompt": "again", "id": "a"}',
        '{"prompt": "p", "messages": [{"role": "user", "content": "m"}]}',
        '{"messages": []}',
        '{"messages": [{"role": "robot", "content": "m"}]}',
        '{"messages": [{"role": "user"}]}',
        '{"messages": [{"role": "user", "content": " "}]}',
        '{"prompt": "p", "id": [1]}',
    ]
    name = write(tmp_path, "bad.jsonl", "\n".join(lines))
    found = mistakes(file=name)
    by_line = {int(text.split(":")[1]): text for text in found}
    assert sorted(by_line) == list(range(2, 14))
    for line, words in {
        2: "invalid JSON: Unterminated string",
        3: "must be a JSON object",
        4: "has no `prompt` and no `messages` (it has: text, answer)",
        5: "the prompt is empty",
        6: "must be text, not int: 3",
        7: f"id 'a' is taken already by {name}:1",
        8: "both `prompt` and `messages`",
        9: "at least one turn",
        10: "role 'robot'",
        11: "needs `role` and `content`",
        12: "is empty",
        13: "`id` must be text or a whole number",
    }.items():
        assert words in by_line[line]


def test_csv_mistakes(tmp_path: Path) -> None:
    assert (
        "has 3 values where the header names 2 columns"
        in mistakes(file=write(tmp_path, "a.csv", "id,prompt\n1,ok\n2,a,b\n"))[0]
    )
    assert (
        "names the column 'prompt' twice"
        in mistakes(file=write(tmp_path, "b.csv", "prompt,prompt\na,b\n"))[0]
    )
    assert "invalid CSV" in mistakes(file=write(tmp_path, "c.csv", 'prompt\n"open\n'))[0]
    empty = mistakes(file=write(tmp_path, "d.csv", "id,prompt\n1,ok\n2,\n"))
    assert len(empty) == 1
    assert "d.csv:3: the prompt is empty" in empty[0]


def test_sets_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "holds no prompts" in mistakes(items=())[0]
    assert "holds no prompts" in mistakes(file=write(tmp_path, "e.txt", "\n \n"))[0]
    assert "prompts.items[1]: the prompt is empty" in mistakes(items=("a", ""))[0]
    missing = mistakes(file=str(tmp_path / "none.txt"))[0]
    assert missing.startswith("prompts.file:")
    assert f"none.txt not found; check the path (looked in {tmp_path})" in missing
    types = ".txt, .jsonl, .json, .csv, .tsv, .parquet"
    assert f"a.xml: unsupported file type; use {types}" in mistakes(file="a.xml")[0]
    latin = write(tmp_path, "l.txt", "ok\nna\xefve\n".encode("latin-1"))
    assert f"{latin}:2: is not UTF-8 (byte 0xef)" in mistakes(file=latin)[0]
    broken = write(tmp_path, "x.parquet", b"PAR1 no")
    assert "cannot be read as parquet" in mistakes(file=broken)[0]
