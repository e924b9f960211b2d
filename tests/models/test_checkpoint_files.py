"""Damaged files of a checkpoint: whatever it is, `harness check` says it in one line, and at once."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from changed_files import edit_json

from harness.errors import ConfigError
from harness.models.checkpoint_files import read_object, reading
from harness.models.weights import read_header


def refused(check: Any, target: Any, *words: str) -> str:
    """The one line of a check that fails within seconds."""
    started = time.perf_counter()
    status, lines, _ = check(target, *words)
    assert time.perf_counter() - started < 20
    assert status == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("model.id: ")
    assert "unexpected" not in lines[0]
    assert len(lines[0]) < 1000
    return str(lines[0])


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def made(content: bytes | Callable[[], bytes]) -> bytes:
    """The bytes; large ones are made only where they are written."""
    return content if isinstance(content, bytes) else content()


ONE = {"x": entry("F32", [1], 0, 4)}
HEADERS: Mapping[str, bytes | Callable[[], bytes]] = {
    "empty": b"",
    "short": b"\x01\x02",
    "a page": b"<html>not found</html>",
    "claims 99 MB": safetensors(ONE, bytes(4), 99_000_000),
    "claims 101 MB": safetensors(ONE, bytes(4), 101_000_000),
    "claims the most": safetensors(ONE, bytes(4), 2**64 - 1),
    "has 99 MB": lambda: safetensors(b"{" + b" " * 99_000_000 + b"}"),
    "truncated header": safetensors(ONE, bytes(4))[:30],
    "truncated data": safetensors(ONE, bytes(2)),
    "more data": safetensors(ONE, bytes(9)),
    "overlapping": safetensors({"x": entry("F32", [2], 0, 8), "y": entry("F32", [2], 4, 12)}, bytes(12)),
    "a gap": safetensors({"x": entry("F32", [1], 0, 4), "y": entry("F32", [1], 8, 12)}, bytes(12)),
    "backwards": safetensors({"x": entry("F32", [1], 4, 0)}, bytes(4)),
    "beyond the end": safetensors({"x": entry("F32", [1], 0, 2**62)}, bytes(4)),
    "unknown dtype": safetensors({"x": entry("F99", [1], 0, 4)}, bytes(4)),
    "wrong dtype": safetensors({"x": entry("F64", [1], 0, 4)}, bytes(4)),
    "negative shape": safetensors({"x": entry("F32", [-1], 0, 4)}, bytes(4)),
    "huge shape": safetensors({"x": entry("F32", [2**62, 4], 0, 4)}, bytes(4)),
    "a list": safetensors([1, 2]),
    "deep": safetensors(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no UTF-8": safetensors(b'{"\xff": 1}'),
    "lines in a name": safetensors({"x\n\x1b[2Jy": entry("F32", [2], 4, 12)}, bytes(4)),
    "no tensor": safetensors({}),
}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_safetensors_headers(changed: Any, check: Any, content: bytes | Callable[[], bytes]) -> None:
    folder = changed(lambda folder: (folder / "model.safetensors").write_bytes(made(content)))
    line = refused(check, folder)
    assert f"{folder}/model.safetensors cannot be read as safetensors: " in line
    assert line.endswith("; fetch it again")


DEEP = "[" * 100_000 + "]" * 100_000
OBJECTS: Mapping[str, bytes | Callable[[], bytes]] = {
    "empty": b"",
    "garbage": b"\x00\x01\x02{",
    "no UTF-8": b'{"model_type": "\xff"}',
    "UTF-16": '{"model_type": "llama"}'.encode("utf-16"),
    "a list": b"[]",
    "a text": b'"llama"',
    "null": b"null",
    "half": b'{"model_type": "lla',
    "deep": DEEP.encode(),
    "deep inside": f'{{"model_type": "llama", "x": {DEEP}}}'.encode(),
    "rather deep": f'{{"model_type": "llama", "x": {"[" * 300 + "]" * 300}}}'.encode(),
    "long number": b'{"model_type": "llama", "vocab_size": ' + b"9" * 10_000 + b"}",
    "large": lambda: b'{"model_type": "llama"' + b" " * 65 * 1024 * 1024 + b"}",
}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", OBJECTS.values(), ids=OBJECTS.keys())
def test_files_that_are_no_json_object(
    changed: Any, check: Any, name: str, content: bytes | Callable[[], bytes]
) -> None:
    folder = changed(lambda folder: (folder / name).write_bytes(made(content)))
    assert name in refused(check, folder)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors.index.json", "adapter_config.json"])
@pytest.mark.parametrize("content", ["empty", "garbage", "a list", "deep", "deep inside"])
def test_other_files_that_are_no_json_object(changed: Any, check: Any, name: str, content: str) -> None:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(made(OBJECTS[content]))
        if name == "model.safetensors.index.json":
            (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")

    refused(check, changed(change))


WRONG: Mapping[str, tuple[Any, ...]] = {
    "vocab_size": ("384", 384.0, True, [384], {"a": 1}, -1),
    "max_position_embeddings": ("128", 128.5, [128], {}, -5),
    "hidden_size": ("64", [64]),
    "num_hidden_layers": ("2",),
    "eos_token_id": ("2", "<|end|>", [["2"]], [2.0], {"id": 2}, True),
    "bos_token_id": ("<s>", [[1]]),
    "pad_token_id": ("x", {}),
    "text_config": ("x", [1]),
    "quantization_config": ("x", [1]),
    "tie_word_embeddings": ("yes", 1),
    "num_key_value_heads": ("2", 1e308, ["2"], True),
    "rms_norm_eps": ("x", [1e-6], True),
    "rope_parameters": ("x", [1]),
    "mlp_bias": ("no", 0),
    "model_type": (["llama"], 5, {"a": 1}),
    "dtype": (["float32"], 16),
}


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values], ids=repr
)
def test_values_of_the_wrong_type(changed: Any, check: Any, key: str, value: Any) -> None:
    folder = changed(lambda folder: edit_json(folder / "config.json", **{key: value}))
    line = refused(check, folder)
    assert f"config.json: {key} is {json.dumps(value)}, not " in line
    assert line.endswith("; correct it, or fetch it again")


@pytest.mark.parametrize("value", WRONG["eos_token_id"], ids=repr)
def test_ids_of_the_wrong_type_in_the_generation_config(changed: Any, check: Any, value: Any) -> None:
    folder = changed(lambda folder: edit_json(folder / "generation_config.json", eos_token_id=value))
    assert "generation_config.json: eos_token_id is " in refused(check, folder)


def test_values_inside_of_a_multimodal_config(changed: Any, check: Any) -> None:
    folder = changed(lambda folder: edit_json(folder / "config.json", text_config={"vocab_size": "9"}))
    assert 'config.json: text_config: vocab_size is "9"' in refused(check, folder)


@pytest.mark.parametrize("weight_map", [None, [], {}, {"x": 3}, {"x": ["a"]}, {"x": "../secret"}], ids=repr)
def test_an_index_that_names_no_files(changed: Any, check: Any, weight_map: Any) -> None:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "other.safetensors")
        edit_json(folder / "model.safetensors.index.json", weight_map=weight_map)

    refused(check, changed(change))


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: "'~no-such-user-here/model'",
        lambda folder: "/tmp/" + "x" * 300,
        lambda folder: "/tmp/" + "/".join(["x" * 200] * 30),
        lambda folder: folder / "config.json" / "inside",
        lambda folder: linked(folder, folder / "loop"),
        lambda folder: linked(folder / "there", folder / "there"),
    ],
    ids=["nouser", "long", "very_long", "below_a_file", "link_to_nothing", "loop"],
)
def test_folders_that_cannot_be_entered(changed: Any, check: Any, make: Callable[[Path], Any]) -> None:
    refused(check, make(changed(lambda folder: None)))


def linked(target: Path, link: Path) -> Path:
    """A link that leads to itself, where the two are one, and else to a file below a link that does."""
    os.symlink(target, link)
    return link if link == target else link / "loop" / "loop" / "nowhere"


NAMES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "model.safetensors",
)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_links_to_themselves(changed: Any, check: Any, name: str) -> None:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.symlink(folder / name, folder / name)

    status, lines, _ = check(changed(change))
    # Of the files that a checkpoint can do without, it does.
    assert (status, len(lines)) in ((2, 1), (0, 0))
    assert not any("unexpected" in line for line in lines)
    if name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert status == 2


@pytest.mark.parametrize("name", NAMES)
def test_files_that_may_not_be_read(
    changed: Any, check: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user finds them; the tests may run as root, who reads everything."""
    folder = changed(lambda folder: None)
    honest = Path.open

    def denied(self: Path, *args: Any, **keys: Any) -> Any:
        if self == folder / name:
            raise PermissionError(13, "Permission denied", str(self))
        return honest(self, *args, **keys)

    monkeypatch.setattr(Path, "open", denied)
    line = refused(check, folder)
    assert "Permission denied" in line
    assert name in line


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/a/b\nc"),
        OSError("no number"),
        RuntimeError("Symlink loop from '/x'"),
        RecursionError("maximum depth"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ValueError("embedded null byte"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_reading_makes_one_line_of_every_error(error: Exception) -> None:
    with pytest.raises(ConfigError) as caught, reading("the file"):
        raise error
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith("model.id: the file cannot be read: ")


def test_what_is_right_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = {"a": [[1, {"b": None}]], "vocab_size": 5}
    path.write_text(json.dumps(content))
    assert read_object(path) == content
    path.write_bytes(safetensors(ONE, bytes(4)))
    assert [tensor.name for tensor in read_header(path)] == ["x"]


VALUES = [
    None, True, 0, -1, 2**31, 2**70, 1e308, -0.5, "", "x", "1", [], [1], ["x"], [[1]], [None], {}, {"a": 1},
    {"a": {"a": 1}}, "\u202e\x1b[2J", "x" * 500,
]  # fmt: skip
OPTIONAL: Mapping[str, Any] = {
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "config_groups": {"g": {"weights": {"num_bits": 4}}},
    },
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "layer_types": ["full_attention"] * 2,
    "sliding_window": 4,
    "auto_map": {"AutoConfig": "x.Y"},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, of long lists only the first ones."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inner)[:40]:
        yield from places(one, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def replace_one_value(folder: Path, random: Random) -> None:
    """Replace a value anywhere in one of the small files by one of another kind."""
    name = random.choice(["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
    found = json.loads((folder / name).read_text())
    if name == "config.json":
        found |= OPTIONAL
    by_key: dict[Any, list[tuple[Any, ...]]] = {}
    for path in places(found):
        by_key.setdefault(path[:1], []).append(path)
    path = random.choice(by_key[random.choice(list(by_key))])
    (folder / name).write_text(json.dumps(replaced(found, path, random.choice(VALUES))))


@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 112), marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_value_of_any_kind_anywhere(small_model: Any, tmp_path: Path, check: Any, seeds: range) -> None:
    for seed in seeds:
        folder = shutil.copytree(small_model(chat="plain"), tmp_path / str(seed))
        random = Random(seed)
        replace_one_value(folder, random)
        status, lines, _ = check(folder, f"prompts.chat={random.choice(['true', 'auto'])}")
        assert (status, len(lines)) in ((0, 0), (2, 1)), (seed, lines)
        shutil.rmtree(folder)
