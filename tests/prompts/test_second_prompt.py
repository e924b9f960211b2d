"""What a guided strategy contrasts a prompt with: of texts and chats, and every way to get it wrong."""

from __future__ import annotations

from typing import Any

import pytest
from small_models import make_tokenizer

from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.config.point import Prompts
from harness.errors import ConfigError
from harness.prompts.prompt import Prompt
from harness.prompts.render import encode, render_rows
from harness.prompts.second_prompt import second_prompts
from harness.prompts.source import read_rows

TURNS = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "It is red. What is it?"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer("bytes", bos=True, pad=True, chat="plain")


def found(tokenizer: Any, *items: Any, longest: int | None = None, **fields: Any) -> list[str]:
    """The texts of the second prompts; `template` is that of the prompt set."""
    prompts = Prompts(name="p", items=items, template=fields.pop("template", None))
    rendered, mistakes, _ = render_rows(prompts, read_rows(prompts), tokenizer, "model-x")
    assert not mistakes
    done = [
        Prompt(one.row.id, one.text, encode(tokenizer, one.text), one.row.fields, one.turns)
        for one in rendered
    ]
    effective = effective_decoding(Decoding(name="x", **fields))
    seconds = second_prompts(done, effective, tokenizer, "model-x", longest)
    return [tokenizer.decode(seconds[prompt.id]) for prompt in done]


def refused(tokenizer: Any, *items: Any, **fields: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        found(tokenizer, *items, **fields)
    return str(caught.value)


class TestNegativePrompt:
    def test_a_row_has_its_own_and_the_others_the_strategys(self, tokenizer: Any) -> None:
        rows = [{"prompt": "One fox", "negative_prompt": "A crow"}, "One house", {"prompt": "The night"}]
        given = found(tokenizer, *rows, guidance_scale=1.5, negative_prompt="No rain")
        assert given == ["<|begin|>A crow", "<|begin|>No rain", "<|begin|>No rain"]

    def test_without_one_it_is_the_last_token_of_the_prompt_alone(self, tokenizer: Any) -> None:
        (text,) = found(tokenizer, "The old house.", guidance_scale=1.5)
        assert text == "."

    def test_of_a_chat_it_takes_the_place_of_the_system_turn(self, tokenizer: Any) -> None:
        rows = [{"messages": TURNS}, {"messages": TURNS[1:]}]
        texts = found(tokenizer, *rows, guidance_scale=1.5, negative_prompt="Be rude.")
        assert set(texts) == {
            "<|begin|><|system|>Be rude.<|end|><|user|>It is red. What is it?<|end|><|assistant|>"
        }

    def test_it_must_be_a_text_that_fits(self, tokenizer: Any) -> None:
        row = {"id": "a", "prompt": "One", "negative_prompt": 3}
        assert refused(tokenizer, row, guidance_scale=1.5) == (
            "prompt a: `negative_prompt` is no text but 3; write a text"
        )
        message = refused(tokenizer, "One", guidance_scale=1.5, negative_prompt="fox " * 30, longest=10)
        assert "and 10 fit; shorten it, or lower generation.max_new_tokens" in message


class TestContext:
    def test_it_is_left_out_of_a_text(self, tokenizer: Any) -> None:
        row = {"prompt": "What is it?", "context": "It is red."}
        texts = found(tokenizer, row, template="{context} {prompt}", context_alpha=0.5)
        assert texts == ["<|begin|>What is it?"]
        row = {"prompt": "Read: It is red. What is it?", "context": "It is red."}
        assert found(tokenizer, row, context_alpha=0.5) == ["<|begin|>Read:  What is it?"]

    def test_it_is_left_out_of_a_chat(self, tokenizer: Any) -> None:
        (text,) = found(tokenizer, {"messages": TURNS, "context": "It is red."}, context_alpha=0.5)
        assert text == "<|begin|><|system|>Be kind.<|end|><|user|>What is it?<|end|><|assistant|>"
        turns = [{"role": "system", "content": "It is red."}, TURNS[1]]
        (text,) = found(tokenizer, {"messages": turns, "context": "It is red."}, context_alpha=0.5)
        assert text == "<|begin|><|user|>It is red. What is it?<|end|><|assistant|>", "an empty turn is none"

    def test_all_prompts_without_one_are_one_mistake(self, tokenizer: Any) -> None:
        rows = [{"id": name, "prompt": name} for name in ("a", "b", "c")]
        assert refused(tokenizer, *rows, context_alpha=0.5) == (
            "prompt a and 2 more: no `context`, which decoding.context_alpha leaves out; give its row one, "
            "or use decoding.context_alpha=null"
        )
        message = refused(tokenizer, {"id": "a", "prompt": "b", "context": "c"}, context_alpha=0.5)
        assert message == (
            "prompt a: the text does not hold the `context`; put it there, as with "
            "'prompts.template=\"{context} {prompt}\"'"
        )


def test_the_prompt_must_not_be_the_context_alone() -> None:
    bare = make_tokenizer("bytes", bos=False, pad=True, chat="none")
    message = refused(bare, {"id": "a", "prompt": "It is red.", "context": "It is red."}, context_alpha=1.0)
    assert message == "prompt a: what it is contrasted with has no tokens; write more, or leave it out"
