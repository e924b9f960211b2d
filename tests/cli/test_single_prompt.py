"""The words of `harness generate`, and the row that they make: the one that a sweep would have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.generate_arguments import generate_arguments
from harness.cli.single_prompt import single_prompt
from harness.config.point import Prompts
from harness.errors import ConfigError
from harness.prompts.source import PromptRow, read_rows

ROWS = [
    {"prompt": "a red fox"},
    {"id": "second", "prompt": "a red fox", "negative_prompt": "a dog"},
    {"id": "chat", "messages": [{"role": "user", "content": "why?"}], "reference": "no"},
]


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return Prompts(name="custom", file=str(path), template="{prompt}!", system="be brief", limit=1)


def row_of(prompts: Prompts, *words: str) -> PromptRow:
    found = single_prompt(prompts, generate_arguments(words))
    assert (found.template, found.system) == (prompts.template, prompts.system)
    (row,) = read_rows(found)
    return row


def test_a_typed_text_has_the_id_that_it_has_in_a_sweep(prompts: Prompts) -> None:
    (row,) = read_rows(Prompts(name="custom", items=("It's a = {b}",)))
    assert row_of(prompts, "prompt=It's a = {b}") == row
    assert row_of(prompts, "prompt=It's a = {b}", "prompt_id=x").id == "x"


def test_a_row_of_a_set_that_is_named(prompts: Prompts) -> None:
    stored = read_rows(prompts.model_copy(update={"limit": None}))
    for words, expected in (
        (["prompt=a red fox", "prompts.file=x"], 0),
        (["prompt=a red fox", "prompt_id=second", "+prompts=x"], 1),
        (["prompt_id=second"], 1),
        (["prompt_id=chat"], 2),
    ):
        row = row_of(prompts, *words)
        wanted = stored[expected]
        assert (row.id, row.prompt, row.messages, row.fields) == (
            wanted.id,
            wanted.prompt,
            wanted.messages,
            wanted.fields,
        )
    third = row_of(prompts, "prompt=a red fox", "prompts.file=x", "prompt_id=third")
    assert (third.id, third.prompt, third.fields) == ("third", "a red fox", {})


def test_a_set_that_is_not_named_is_not_asked_for_texts(prompts: Prompts) -> None:
    assert row_of(prompts, "prompt=a red fox", "decoding=top_p").fields == {}


def test_chat_is_an_override() -> None:
    """So that `prompts.system` and the rest are checked with it."""
    for words, expected in (
        (["chat=True"], ["prompts.chat=true"]),
        (["prompts=questions", "chat=false"], ["prompts=questions", "prompts.chat=false"]),
        (["prompts.chat=true", "chat=true"], ["prompts.chat=true"]),
        ([], []),
    ):
        assert generate_arguments(["prompt=x", *words]).overrides == expected


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], 'prompt: must be given: harness generate model=M prompt="It was a dark and stormy"'),
        (["prompt=", "prompt_id=x"], "prompt: must be given"),
        (["prompt=x", "prompt=y"], "prompt=y: prompt is given twice; remove one of them"),
        (["prompt=It", "was"], "prompt=It: 1 more words come after it; quote it: 'prompt=It was'"),
        (["prompt=x", "--json=1"], "--json=1: takes no value; write --json"),
        (["prompt=x", "chat=maybe"], "chat=maybe: must be true or false"),
        (["prompt=caf\udce9"], "prompt: holds "),
    ],
)
def test_a_mistake_is_one_line(words: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        generate_arguments(words)
    (mistake,) = str(raised.value).splitlines()
    assert mistake.startswith(line)
