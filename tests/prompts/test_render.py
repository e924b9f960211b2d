"""Rendering: what goes through the chat template, and special tokens exactly once."""

from __future__ import annotations

from typing import Any

import pytest
from small_models import make_tokenizer

from harness.config.point import Prompts
from harness.prompts.render import encode, render_rows
from harness.prompts.source import read_rows

TURNS = [{"role": "user", "content": "What is it?"}]
CHATS = ("none", "plain", "bos")


@pytest.fixture(scope="module")
def tokenizers() -> dict[Any, Any]:
    return {
        (bpe, bos, chat): make_tokenizer(bpe, bos=bos, pad=True, chat=chat)
        for bpe in ("bytes", "metaspace")
        for bos in (True, False)
        for chat in CHATS
    }


def render(tokenizer: Any, *items: Any, **keys: Any) -> tuple[list[str], list[str], list[str]]:
    prompts = Prompts(name="p", items=items, **keys)
    rendered, mistakes, warnings = render_rows(prompts, read_rows(prompts), tokenizer, "model-x")
    return [entry.text for entry in rendered], [str(mistake) for mistake in mistakes], warnings


def test_auto_sends_only_messages_through_the_chat_template(tokenizers: Any) -> None:
    tokenizer = tokenizers["bytes", True, "bos"]
    texts, mistakes, warnings = render(tokenizer, "plain text", {"id": "m", "messages": TURNS})
    assert mistakes == []
    assert texts == ["plain text", "<|begin|><|user|>What is it?<|end|><|assistant|>"]
    assert warnings == []


def test_an_unused_chat_template_is_a_warning(tokenizers: Any) -> None:
    (message,) = render(tokenizers["bytes", True, "plain"], "plain text", "more")[2]
    assert message == (
        "prompts.chat: model-x has a chat template that no prompt uses; prompts.chat=true uses it, "
        "prompts.chat=false silences this warning"
    )
    assert render(tokenizers["bytes", True, "none"], "plain text")[2] == []


def test_true_makes_a_user_turn_and_system_goes_first(tokenizers: Any) -> None:
    tokenizer = tokenizers["bytes", True, "plain"]
    with_system = [{"role": "system", "content": "Own."}, *TURNS]
    texts, mistakes, warnings = render(
        tokenizer, "Hi", {"messages": with_system}, chat=True, system="Be kind."
    )
    assert (mistakes, warnings) == ([], [])
    assert texts[0] == "<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>"
    assert texts[1] == "<|system|>Own.<|end|><|user|>What is it?<|end|><|assistant|>"


def test_false_takes_the_text_without_a_warning(tokenizers: Any) -> None:
    assert render(tokenizers["bytes", True, "bos"], "Hi", chat=False) == (["Hi"], [], [])


def test_a_partial_answer_is_continued(tokenizers: Any) -> None:
    partial = [*TURNS, {"role": "assistant", "content": "It is"}]
    texts, mistakes, _ = render(tokenizers["bytes", True, "plain"], {"messages": partial})
    assert mistakes == []
    assert texts == ["<|user|>What is it?<|end|><|assistant|>It is"]


def test_templates_are_filled_before_the_chat_template(tokenizers: Any) -> None:
    texts, mistakes, _ = render(
        tokenizers["bytes", True, "plain"], {"topic": "rain"}, template="About {topic}", chat=True
    )
    assert (texts, mistakes) == (["<|user|>About rain<|end|><|assistant|>"], [])


def test_mistakes_name_the_row_and_the_cure(tokenizers: Any) -> None:
    none, plain = tokenizers["bytes", True, "none"], tokenizers["bytes", True, "plain"]
    for keys in ({"chat": True}, {}):
        item = "Hi" if keys else {"messages": TURNS}
        (message,) = render(none, item, **keys)[1]
        assert message.startswith("prompts.chat: model-x has no chat template")
        assert "prompts.chat=false" in message
    assert "prompts.chat=false cannot use" in render(plain, {"messages": TURNS}, chat=False)[1][0]
    assert "prompts.template cannot fill" in render(plain, {"messages": TURNS}, template="{id}")[1][0]
    assert "prompts.system has no effect" in render(plain, "Hi", system="S")[1][0]
    assert "names {topic}, which the row lacks" in render(plain, "Hi", template="{topic}")[1][0]
    assert "empty after prompts.template" in render(plain, {"a": " "}, template="{a}")[1][0]
    assert render(plain, "Hi", template="{")[1][0].startswith("prompts.template: '{'")


def test_a_template_that_refuses_turns_is_a_mistake_of_the_row() -> None:
    tokenizer = make_tokenizer("bytes", bos=True, pad=True, chat="plain")
    tokenizer.chat_template = "{{ raise_exception('system turns are not for me') }}"
    (message,) = render(tokenizer, {"messages": TURNS})[1]
    assert message == (
        "prompts.items[0]: the chat template of model-x refuses these turns: system turns are not for me"
    )


@pytest.mark.parametrize("bpe", ["bytes", "metaspace"])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("chat", ["plain", "bos"])
def test_bos_is_there_exactly_once_or_never(tokenizers: Any, bpe: str, bos: bool, chat: str) -> None:
    tokenizer = tokenizers[bpe, bos, chat]
    (text,), _, _ = render(tokenizer, {"messages": TURNS})
    ids = encode(tokenizer, text)
    begin = tokenizer.bos_token_id
    wanted = 1 if bos or chat == "bos" else 0
    assert ids.count(begin) == wanted
    assert ids[:1] == (begin,) or not wanted
    raw = encode(tokenizer, "It was")
    assert raw.count(begin) == (1 if bos else 0)
    # With BOS from the template these are the very ids that transformers gives.
    if chat == "bos" or not bos:
        stock = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True)["input_ids"]
        assert list(ids) == list(stock)


def test_an_eos_behind_the_prompt_is_left_out_unless_it_is_in_the_text() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer("bytes", bos=True, pad=True, chat="none")
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", begin), ("<|end|>", end)]
    )
    assert tokenizer("It was")["input_ids"][-1] == end
    ids = encode(tokenizer, "It was")
    assert ids[0] == begin
    assert end not in ids
    assert encode(tokenizer, "It was<|end|>") == (*ids, end)
    assert encode(tokenizer, "<|begin|>It was") == ids
