"""Titles of prompts, and the turns of chats."""

from __future__ import annotations

import json

from harness.analysis.prompt_titles import Turn, prompt_title, turns_of

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Name\n  three   rivers."},
    {"role": "assistant", "content": "The Rhine,"},
]


def test_a_chat_is_called_by_the_last_message_of_its_user() -> None:
    assert prompt_title("<|im_start|>system...", json.dumps(CHAT)) == "Name three rivers."
    assert prompt_title("<s>Be kind.", json.dumps(CHAT[:1])) == "Be kind."


def test_a_text_is_called_by_its_end_and_a_chat_by_its_beginning() -> None:
    long = "a b " * 100
    assert prompt_title("It was a dark\nand stormy") == "It was a dark and stormy"
    assert prompt_title(long + "c", longest=10) == "…a b a b c"
    assert (
        prompt_title("x", json.dumps([{"role": "user", "content": "d " + long}]), longest=10) == "d a b a b…"
    )
    for longest in (2, 10, 50):
        assert len(prompt_title(long, longest=longest)) <= longest


def test_turns_are_those_of_the_messages() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "née"}]}
    assert turns_of(json.dumps([CHAT[0], call])) == (
        Turn("system", "Be kind."),
        Turn("assistant", '[{"name": "née"}]'),
    )


def test_what_is_no_chat_has_no_turns() -> None:
    for messages in (None, "", "{}", "[1]", "no JSON"):
        assert turns_of(messages) == ()
        assert prompt_title("a text", messages) == "a text"
