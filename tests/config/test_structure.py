"""What outputs must be: files and texts, what is wrong with them, and what enters an address."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.config import hydra_app
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.config.structure import Structure, problem_of, structure_of
from harness.errors import ConfigError

PERSON = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}}


def effective(**fields: Any) -> dict[str, Any]:
    return effective_decoding(Decoding(name="x", **fields))


def test_a_file_is_its_content(tmp_path: Path) -> None:
    """Nothing but the content enters the address, which changes with it."""
    file, lark = tmp_path / "person.json", tmp_path / "sum.lark"
    file.write_text(json.dumps(PERSON, indent=4), encoding="utf-8")
    lark.write_text('start: "a"\n', encoding="utf-8")
    written = '{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"integer"}}}'
    for value in (str(file), PERSON, json.dumps(PERSON), f"  {json.dumps(PERSON, indent=1)}\n"):
        assert effective(json_schema=value)["json_schema"] == written
    assert effective(json_schema="{type: object}")["json_schema"] == '{"type":"object"}'
    assert effective(grammar=str(lark))["grammar"] == 'start: "a"\n'
    before = effective(json_schema=str(file))
    file.write_text('{"type": "array"}', encoding="utf-8")
    assert effective(json_schema=str(file)) != before


def test_the_order_of_properties_counts() -> None:
    other = {"type": "object", "properties": dict(reversed(PERSON["properties"].items()))}  # type: ignore[attr-defined]
    assert effective(json_schema=PERSON) != effective(json_schema=other)


def test_without_it_an_address_is_as_it_was() -> None:
    assert not {"json_schema", "regex", "choices", "grammar"} & effective().keys()
    assert structure_of(effective()) is None
    assert structure_of(effective(choices=("a", "b"))) == Structure("choices", '["a", "b"]')


@pytest.mark.parametrize(
    "value",
    ["nope.json", "{not", "[1, 2", "3: [", "{a: 2020-01-01}", "[" * 5000, "text"],
)
def test_what_is_no_json_is_one_line(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        effective(json_schema=value)
    (mistake,) = caught.value.mistakes
    assert str(mistake).startswith("decoding.json_schema")
    assert len(str(mistake)) < 320
    assert "\n" not in str(mistake)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("regex", "(a|b", "unclosed group"),
        ("regex", "(?=a)b", "look-ahead"),
        ("regex", r"(a)\1", "backreferences are not supported"),
        ("regex", r"[^\s\S]", "no text is like this"),
        ("json_schema", '{"type":"objct"}', "Invalid type: objct"),
        ("json_schema", '{"$ref":"#/x"}', "'/x' does not exist"),
        ("json_schema", '{"type":"array","uniqueItems":true}', "uniqueItems"),
        ("json_schema", '{"type":"string","minLength":5,"maxLength":2}', "minLength (5)"),
        ("grammar", 'strt: "a"', "no start rule"),
        ("grammar", 'start: "a" b', 'unknown name: "b"'),
    ],
)
def test_what_cannot_be_decoded_is_said(name: Any, text: str, says: str) -> None:
    pytest.importorskip("llguidance")
    problem = problem_of(Structure(name, text))
    assert problem is not None
    assert says in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("regex", "yes|no"),
        ("choices", '["a \\"quoted\\" text", "caf\u00e9\\n", "\\\\d", "a/b", "\u2028", "😀"]'),
        ("json_schema", '{"type":"object"}'),
        ("grammar", 'start: "a" | "(" start ")"'),
    ],
)
def test_what_can_be_decoded_is_no_mistake(name: Any, text: str) -> None:
    pytest.importorskip("llguidance")
    assert problem_of(Structure(name, text)) is None


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.config.structure.find_spec", lambda name: None)
    assert problem_of(Structure("regex", "a")) == (
        "llguidance is not installed: pip install 'decoding-harness[grammar]'"
    )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("decoding.regex=yes decoding.choices=[a,b]", "regex says what the output must be too"),
        ("decoding.choices=[]", "decoding.choices=[]: contains nothing; give at least one text"),
        ("'decoding.choices=[a,\"\"]'", "contains an empty text; remove it"),
        ("decoding.choices=yes", """must be a list, each text; 'decoding.choices=["yes"]'"""),
        ("decoding.regex=3", """must be text; quote it: "decoding.regex='3'\""""),
        ("decoding.json_schema=nope.json", "decoding.json_schema: nope.json cannot be read"),
        ("decoding=beam decoding.regex=yes", "use decoding=greedy"),
        ("decoding.regex=yes generation.ignore_eos=true", "set generation.ignore_eos=false"),
        ("decoding.guided_json=a", "use decoding.json_schema"),
    ],
)
def test_mistakes_on_the_command_line(
    command: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.config.structure._problem", lambda structure: None)
    monkeypatch.setattr("harness.config.structure.find_spec", lambda name: True)
    assert main(["check", "model=fable_tiny", *shlex.split(command)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1


def test_a_schema_of_the_command_line_replaces_that_of_the_choice(outputs: Path) -> None:
    """And goes to the strategy that is about it, not to the other one."""
    pytest.importorskip("llguidance")
    found: list[Any] = []
    schema = "decoding.json_schema={type: array, items: {type: integer}}"

    def take(points: Any, name: Any, files: Any) -> int:
        found.extend(points)
        return 0

    assert hydra_app.run(["-m", "model=fable_tiny", "decoding=greedy,json", schema], take) == 0
    greedy, json_ = found
    assert greedy.decoding.json_schema is None
    assert json_.decoding.json_schema == {"type": "array", "items": {"type": "integer"}}
