"""Files of prompts with random damage: prompts that are what the file says, or one line per mistake.

Seeded: case N is the same everywhere. `CASES` are in `make test`, many more in `make test-slow`.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_models import make_tokenizer

from harness.cli.main import main
from harness.config.point import Prompts
from harness.errors import ConfigError
from harness.prompts import PreparedPrompts, prepare_prompts

KINDS = ("txt", "jsonl", "csv", "parquet")
CASES = 700
MANY_CASES = 10_000
CONTEXT = 64

TEXTS = (
    "It was a dark night",
    "naïve 漢字 👩‍👩‍👧",
    " spaces ",
    'a "quote", {brace} and \\',
    "\u202eleft \u2028 line",
    "x" * 90,
)
TURNS = (
    [{"role": "user", "content": "What is it?"}],
    [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "Say"}, {"role": "assistant", "content": "It is"}],
    [{"role": "user", "content": "Look"}, {"role": "assistant", "tool_calls": [{"name": "look"}]}],
)
BITS: tuple[bytes, ...] = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x1b[31m", b"\x85",
    b"\x0c", "\u2028".encode(), b"\xed\xa0\x80", b"\\ud800", b"\\udfff", b"\\u0000", b"\\ud83d\\ude00", b'"',
    b'""', b",", b"{", b"}", b"[", b"]", b":", b"\\", b"null", b"NaN", b"1e999", b"9" * 5000, b"[" * 1200,
    b'"prompt": 1, ', b'"id": "a", ', b'"id": "__proto__", ', b'"prompt": "again", ', b'"messages": [], ',
    b'"role": "tool", ', b'"reference": {}, ', b"prompt", b"id", b"\t", b" ", b"", b"\xe9", b"x" * 3000,
)  # fmt: skip
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"chat": True},
    {"chat": False},
    {"template": "Tell {prompt} now"},
    {"template": "{id}: {prompt}", "chat": True, "system": "Be kind."},
    {"system": "Be kind."},
    {"limit": 2},
    {"too_long": "truncate_left"},
    {"too_long": "split"},
)


def rows(chance: random.Random) -> list[dict[str, Any]]:
    """A few rows as a user would write them."""
    found = []
    for number in range(chance.randrange(1, 6)):
        row: dict[str, Any] = {"prompt": chance.choice(TEXTS)}
        if chance.random() < 0.2:
            row = {"messages": chance.choice(TURNS)}
        if chance.random() < 0.5:
            row["id"] = chance.choice([f"p{number}", number, chance.choice(TEXTS)])
        if chance.random() < 0.3:
            row["reference"] = chance.choice(TEXTS)
        if chance.random() < 0.2:
            row["topic"] = chance.choice([1, 2.5, None, True, "rain", {"a": [1]}])
        found.append(row)
    return found


def as_txt(found: list[dict[str, Any]]) -> bytes:
    return "\n".join(str(row.get("prompt", "a chat")) for row in found).encode()


def as_jsonl(found: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=len(found) % 2 == 0) for row in found).encode()


def as_csv(found: list[dict[str, Any]]) -> bytes:
    header = list(dict.fromkeys(key for row in found for key in row))
    cells = [[row.get(key, "") for key in header] for row in found]
    texts = [[value if isinstance(value, str) else json.dumps(value) for value in line] for line in cells]
    quoted = [",".join('"' + text.replace('"', '""') + '"' for text in line) for line in [header, *texts]]
    return "\r\n".join(quoted).encode()


def as_parquet(found: list[dict[str, Any]]) -> bytes:
    plain = [row | {"topic": str(row.get("topic")), "id": str(row.get("id", ""))} for row in found]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(plain), buffer, compression="none")
    return buffer.getvalue()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "txt": as_txt, "jsonl": as_jsonl, "csv": as_csv, "parquet": as_parquet,
}  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with none to four changes; those of a binary file mostly keep its length."""
    binary = data.startswith(b"PAR1")
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.randrange(1, 30))
        change = 2 if binary and chance.random() < 0.8 else chance.randrange(6)
        if change == 0:
            data = data[:at] + chance.choice(BITS) + data[at:]
        elif change == 1:
            data = data[:at] + chance.choice(BITS) + data[to:]
        elif change == 2:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif change == 3:
            data = data[:at] + data[at:to] * 2 + data[to:]
        elif change == 4:
            data = data[:at] + data[to:]
        elif chance.random() < 0.2:
            data = chance.choice([data[:at], data.decode("latin-1").encode("utf-16"), b"\xef\xbb\xbf" + data])
    return data


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer("bytes", bos=True, pad=True, chat="plain")


def prepare(tokenizer: Any, **keys: Any) -> PreparedPrompts:
    info: Any = SimpleNamespace(id="model-x", context_length=CONTEXT, vocab_size=len(tokenizer))
    return prepare_prompts(Prompts(name="fuzz", **keys), info, tokenizer, 8)


def check_mistakes(error: ConfigError, path: Path, data: bytes) -> None:
    """Each mistake is one line, and is at a line of the file or at a key."""
    assert error.mistakes
    lines = len(re.findall(rb"\r\n|\r|\n", data)) + 1
    for mistake in error.mistakes:
        text = str(mistake)
        assert "\n" not in text
        assert "unexpected" not in text.split(": ")[1][:12]
        assert len(text) < 1500
        found = re.match(re.escape(str(path)) + r"(?::(\d+)| row (\d+)|$)", mistake.key)
        if found and found.group(1):
            assert 1 <= int(found.group(1)) <= lines
        elif not found:
            assert re.fullmatch(
                r"prompts(\.\w+)?|model\.chat_template|generation\.max_new_tokens", mistake.key
            )


def texts_of(path: Path, data: bytes, limit: int | None) -> list[str] | None:
    """The texts of a .txt or .jsonl file of texts alone, read in another way; None for other files."""
    if path.suffix not in (".txt", ".jsonl"):
        return None
    lines = [line.removeprefix("\ufeff") for line in re.split("\r\n|\r|\n", data.decode("utf-8-sig"))]
    lines = [line for line in lines if line.strip()]
    if path.suffix == ".txt":
        return lines[:limit]
    found = [json.loads(line) for line in lines[:limit]]
    found = [row if isinstance(row, str) else row.get("prompt") for row in found]
    return None if None in found else found


def check_prompts(
    done: PreparedPrompts, path: Path, data: bytes, keys: dict[str, Any], tokenizer: Any
) -> None:
    """Ids are unique and printable, token ids are those of the texts, the texts those of the file."""
    ids = [prompt.id for prompt in done.prompts]
    assert ids
    assert len(set(ids)) == len(ids)
    for prompt in done.prompts:
        assert prompt.id.isprintable()
        assert prompt.id.strip() == prompt.id != ""
        assert prompt.text.encode("utf-8").decode("utf-8") == prompt.text
        assert 0 < len(prompt.ids) <= CONTEXT - 8
        json.dumps(dict(prompt.row), default=str).encode()
    assert all("\n" not in warning for warning in done.warnings)
    if not set(keys) - {"limit", "chat"} and keys.get("chat") is not True:
        texts = [prompt.text for prompt in done.prompts]
        for prompt in done.prompts:
            assert tokenizer.decode(prompt.ids[1:]) == prompt.text
        wanted = texts_of(path, data, keys.get("limit"))
        assert wanted is None or texts == wanted
        # What was read, written as JSON and as parquet, is read again with the same ids, given or made.
        again = path.with_name("again.jsonl")
        again.write_text("\n".join(json.dumps({"id": p.id, "prompt": p.text}) for p in done.prompts))
        second = prepare(tokenizer, file=str(again), chat=False)
        assert [(p.id, p.text, p.ids) for p in second.prompts] == [
            (p.id, p.text, p.ids) for p in done.prompts
        ]
    assert prepare(tokenizer, file=str(path), **keys) == done


def fuzz(tmp_path: Path, tokenizer: Any, kind: str, cases: range) -> tuple[int, int]:
    """Read damaged files; returns how many were read and how many refused."""
    path, read, refused = tmp_path / f"p.{kind}", 0, 0
    for case in cases:
        chance = random.Random(f"{kind}/{case}")
        data = damaged(WRITERS[kind](rows(chance)), chance)
        keys = chance.choice(OPTIONS)
        path.write_bytes(data)
        try:
            try:
                done = prepare(tokenizer, file=str(path), **keys)
            except ConfigError as error:
                check_mistakes(error, path, data)
                refused += 1
            else:
                check_prompts(done, path, data, keys, tokenizer)
                read += 1
        except Exception as error:
            raise AssertionError(f"{kind} case {case}, {keys}: {data[:300]!r}") from error
    return read, refused


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    read, refused = fuzz(tmp_path, tokenizer, kind, range(CASES))
    assert read > CASES / 20
    assert refused > CASES / 20


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(tmp_path: Path, tokenizer: Any, kind: str, part: int) -> None:
    first = CASES + part * MANY_CASES
    read, refused = fuzz(tmp_path, tokenizer, kind, range(first, first + MANY_CASES))
    assert min(read, refused) > MANY_CASES / 20


def test_the_command_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`harness check` of damaged files: exit status 0 or 2, a line per mistake, no escape sequence."""
    monkeypatch.chdir(tmp_path)
    statuses = []
    for case in range(8):
        kind, chance = KINDS[case % len(KINDS)], random.Random(f"command/{case}")
        data = WRITERS[kind](rows(chance))
        Path(f"p.{kind}").write_bytes(damaged(data, chance) if case else data)
        words = ["model=fable_tiny", "prompts=custom", f"prompts.file=p.{kind}", "tracking=off"]
        statuses.append(main(["check", *words]))
        printed = capsys.readouterr()
        assert statuses[-1] in (0, 2), printed.err
        assert bool(printed.err) == (statuses[-1] == 2)
        both = printed.err + printed.out
        assert not re.search("^unexpected|Traceback|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", both, re.MULTILINE)
        assert all(re.match(r"p\.\w+[: ]|prompts|model", line) for line in printed.err.splitlines())
    assert {0, 2} == set(statuses)
