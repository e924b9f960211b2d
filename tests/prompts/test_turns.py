"""Chats as people's files write them: OpenAI's messages with parts, ShareGPT's conversations."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.point import Prompts
from harness.prompts.render import render_rows
from harness.prompts.source import read_rows
from harness.prompts.turns import ROLES, chat_turns, conversation, known_roles

USER = {"role": "user", "content": "How many?"}


def test_a_content_of_text_parts_is_their_text() -> None:
    parts = [{"type": "text", "text": "How "}, {"type": "input_text", "text": "many"}, {"text": "?"}]
    assert chat_turns([{"role": "user", "content": parts}]) == (USER,)
    assert chat_turns([{"role": "user", "content": ["How ", "many?"]}]) == (USER,)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "a part of type 'image_url'"),
        ({"type": "text"}, "a text part without `text`"),
        (3, "a part of type 'int'"),
    ],
)
def test_parts_that_are_no_text_are_refused(part: Any, said: str) -> None:
    with pytest.raises(ValueError, match="turn 2 of `messages` has") as caught:
        chat_turns([USER, {"role": "user", "content": [{"text": "see"}, part]}])
    assert said in str(caught.value)
    assert "keep text parts only" in str(caught.value)


def test_a_conversation_ends_before_its_last_answer() -> None:
    turns = [
        {"from": "system", "value": "Be short."},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
        {"from": "human", "value": "How many?"},
        {"from": "gpt", "value": "Two."},
    ]
    found, answer = conversation(turns)
    assert [turn["role"] for turn in found] == ["system", "user", "assistant", "user"]
    assert found[-1] == USER
    assert answer == "Two."
    assert conversation(turns[:4]) == (found, None)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([{"from": "gpt", "value": "Two."}], "nothing is left to ask"),
        (
            [{"from": "narrator", "value": "x"}],
            "turn 1 of `conversations` is from 'narrator'; it can be from",
        ),
        ([{"from": "human"}], "needs `role` and `content`"),
        ([{"from": ["human"], "value": "x"}], "is from ['human']"),
    ],
)
def test_a_conversation_that_cannot_be_asked_is_refused(turns: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"conversations") as caught:
        conversation(turns)
    assert said in str(caught.value)


def test_a_row_with_a_conversation_has_its_answer_as_reference() -> None:
    turns = [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": "Two."}]
    own = {"conversations": turns, "reference": "2"}
    first, second = read_rows(Prompts(name="mine", items=({"id": "a", "conversations": turns}, own)))
    assert first.messages == second.messages == (USER,)
    assert first.prompt is None
    assert first.fields == {"reference": "Two."}
    assert second.fields == {"reference": "2"}


class Tokenizer:
    """Writes each turn's role and content."""

    def __init__(self, chat_template: str) -> None:
        self.chat_template = chat_template

    def apply_chat_template(self, turns: Any, **_: Any) -> str:
        return "".join(f"<{turn['role']}>{turn['content']}" for turn in turns)


@pytest.mark.parametrize(
    ("template", "role"), [("{{ turns }}", "system"), ("{% if role == 'developer' %}", "developer")]
)
def test_a_developer_is_the_system_for_templates_that_do_not_know_one(template: str, role: str) -> None:
    turns = [{"role": "developer", "content": "Be short."}, USER]
    assert known_roles(turns, template) == [{"role": role, "content": "Be short."}, USER]
    prompts = Prompts(name="mine", items=({"messages": turns},), system="Be long.")
    tokenizer: Any = Tokenizer(template)
    (row,), mistakes, _ = render_rows(prompts, read_rows(prompts), tokenizer, "model")
    assert not mistakes
    assert row.text == f"<{role}>Be short.<user>How many?", "its own first turn instead of prompts.system"


def test_roles_are_named_where_one_is_wrong() -> None:
    with pytest.raises(ValueError, match=f"has role 'boss'; roles are {', '.join(ROLES)}"):
        chat_turns([{"role": "boss", "content": "x"}])
