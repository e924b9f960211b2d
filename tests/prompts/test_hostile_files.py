"""Files from elsewhere: line ends, encodings, keys given twice; each is read right or refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_models import make_tokenizer

from harness.config.point import Prompts
from harness.errors import ConfigError
from harness.prompts import PreparedPrompts, prepare_prompts
from harness.prompts.source import read_rows

BOM = "\ufeff"
TEXTS = ["one", " two", "three"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer("bytes", bos=True, pad=True, chat="plain")


def prepare(tokenizer: Any, **keys: Any) -> PreparedPrompts:
    info: Any = SimpleNamespace(id="model-x", context_length=128, vocab_size=len(tokenizer))
    return prepare_prompts(Prompts(name="mine", **keys), info, tokenizer, 8)


def refused(**keys: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_rows(Prompts(name="mine", **keys))
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("start", ["", BOM, BOM * 2], ids=["no BOM", "BOM", "two BOMs"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv"])
def test_every_line_end_separates_prompts(tmp_path: Path, kind: str, start: str, end: str) -> None:
    """Files of old Macs, of Windows, and joined ones: the same prompts, and the numbers of their lines."""
    lines = {
        ".txt": TEXTS,
        ".jsonl": [json.dumps(text) for text in TEXTS],
        ".csv": ["prompt", *TEXTS],
    }[kind]
    name = tmp_path / f"p{kind}"
    name.write_bytes((start + end.join([*lines[:-1], "", lines[-1]])).encode())
    if kind == ".csv" and start == BOM * 2:
        assert "has no `prompt`" in refused(file=str(name))[0]
        return
    rows = read_rows(Prompts(name="mine", file=str(name)))
    assert [row.prompt for row in rows] == TEXTS
    first = 2 if kind == ".csv" else 1
    assert [int(row.where.rpartition(":")[2]) for row in rows] == [first, first + 1, first + 3]


def test_mixed_line_ends_and_joined_files(tmp_path: Path) -> None:
    name = tmp_path / "p.txt"
    name.write_bytes(f"a\rb\r\nc\n\r{BOM}d\n{BOM}e".encode())
    rows = read_rows(Prompts(name="mine", file=str(name)))
    assert [(row.prompt, row.where.rpartition(":")[2]) for row in rows] == [
        ("a", "1"), ("b", "2"), ("c", "3"), ("d", "5"), ("e", "6"),
    ]  # fmt: skip


@pytest.mark.parametrize("char", "\v\f\x1c\x85\u2028\u2029")
def test_what_only_looks_like_a_line_end_is_kept_and_said(tmp_path: Path, tokenizer: Any, char: str) -> None:
    (tmp_path / "p.txt").write_text(f"a{char}b\nc", encoding="utf-8")
    done = prepare(tokenizer, file=str(tmp_path / "p.txt"), chat=False)
    assert [prompt.text for prompt in done.prompts] == [f"a{char}b", "c"]
    (warning,) = done.warnings
    assert f"p.txt:1: U+{ord(char):04X} looks like a line end" in warning
    (tmp_path / "p.jsonl").write_text(json.dumps(f"a{char}b"), encoding="utf-8")
    assert prepare(tokenizer, file=str(tmp_path / "p.jsonl"), chat=False).warnings == ()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv"])
def test_other_encodings_are_refused(tmp_path: Path, kind: str, encoding: str) -> None:
    name = tmp_path / f"p{kind}"
    name.write_bytes('prompt\n"one"\n'.encode(encoding))
    (line,) = refused(file=str(name))
    assert line.startswith(f"{name}:1: is not UTF-8 (")
    assert line.endswith("save the file as UTF-8")


@pytest.mark.parametrize(
    "row",
    [
        r'{"prompt": "a\ud800"}',
        r'{"prompt": "a", "re\udfffl": 1}',
        r'{"prompt": "a", "id": "\ud83d"}',
        r'{"prompt": "a", "reference": "\udc80"}',
        r'{"prompt": "a", "meta": {"deep": ["\ud800"]}}',
        r'{"messages": [{"role": "user", "content": "\ud800"}]}',
        r'{"messages": "[{\"role\": \"user\", \"content\": \"\\ud800\"}]"}',
        r'"\ud800"',
    ],
)
def test_a_lone_surrogate_is_a_mistake_of_its_row(tmp_path: Path, row: str) -> None:
    (tmp_path / "p.jsonl").write_text(f'"fine"\n{row}\n')
    (line,) = refused(file=str(tmp_path / "p.jsonl"))
    assert line.startswith(f"{tmp_path / 'p.jsonl'}:2: ")
    assert "no Unicode text" in line or "printable" in line


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ('{"prompt": "a", "prompt": "b"}', "the key 'prompt' is given twice"),
        ('{"prompt": "a", "meta": {"x": 1, "x": 1}}', "the key 'x' is given twice"),
        (
            '{"messages": "[{\\"role\\": \\"user\\", \\"role\\": \\"user\\"}]"}',
            "the key 'role' is given twice",
        ),
        ('{"prompt": ' + "[" * 5000, "nested too deeply"),
        ('{"prompt": "a", "x": ' + "[" * 200 + "]" * 200 + "}", "nested more than 100 levels deep"),
        ('{"prompt": "a", "n": ' + "9" * 5000 + "}", "Exceeds the limit"),
    ],
)
def test_json_that_says_something_in_vain_or_too_much(tmp_path: Path, row: str, cause: str) -> None:
    (tmp_path / "p.jsonl").write_text(row)
    (line,) = refused(file=str(tmp_path / "p.jsonl"))
    assert line.startswith(f"{tmp_path / 'p.jsonl'}:1: ")
    assert cause in line


def test_parquet_that_says_a_column_twice_or_is_no_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    twice, wrong = tmp_path / "twice.parquet", tmp_path / "wrong.parquet"
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"]), twice)
    assert "names the column 'prompt' twice" in refused(file=str(twice))[0]
    bytes_as_text = pa.array([b"a", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"prompt": bytes_as_text}), wrong)
    assert "cannot be read as parquet" in refused(file=str(wrong))[0]


@pytest.mark.parametrize("name", ["~nobody-here/p.txt", "x" * 300 + ".txt", "loop.txt", "a\0b.txt"])
def test_paths_that_cannot_be_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop.txt").symlink_to("loop.txt")
    (line,) = refused(file=name)
    assert line.startswith("prompts.file: ")


def test_a_long_line_is_refused_without_encoding_all_of_it(tokenizer: Any) -> None:
    for text in ("word and others; " * 600_000, "x" * 10_000_000):
        before = time.process_time()
        with pytest.raises(ConfigError, match=r"more than \d+ tokens \+ 8 new ones > the model's 128"):
            prepare(tokenizer, items=(text,), chat=False)
        assert time.process_time() - before < 2
    # Few tokens for many characters fit as before.
    blank = make_tokenizer("bytes", bos=True, pad=True, chat="none")
    blank.add_tokens(["~" * 100])
    (prompt,) = prepare(blank, items=("~" * 10_000,)).prompts
    assert len(prompt.ids) == 101
