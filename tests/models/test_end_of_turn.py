"""The token that ends a chat answer, found in templates of every style."""

from __future__ import annotations

from typing import Any

import pytest
from small_models import make_tokenizer

from harness.models.end_of_turn import end_of_turn

TURNS = "{% for m in messages %}"
EVERY = {
    "marker": (TURNS + "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}", "<|end|>"),
    "marker and newline": (TURNS + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}", "<|end|>"),
    "space before it": (TURNS + "{{ m.content | trim }} {{ bos_token }}{% endfor %}", "<|begin|>"),
    "another than EOS": (TURNS + "{{ m.content }}<|pad|>{% endfor %}{{ eos_token }}", "<|pad|>"),
    "the next turn's": (TURNS + "<|{{ m.role }}|>{{ m.content }}{% endfor %}<|user|>", "<|user|>"),
    "added, not special": (TURNS + "{{ m.content }}<stop>{% endfor %}", "<stop>"),
    "after answers only": (TURNS + "{{ m.content }}{{ '<|pad|>' if loop.last }}{% endfor %}", "<|pad|>"),
    "no special token": (TURNS + "### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}", "<|end|>"),
    "no answer": ("{{ messages[0].content }}<|pad|>", "<|end|>"),
    "answer in upper case": (TURNS + "{{ m.content | upper }}<|pad|>{% endfor %}", "<|end|>"),
    "refuses": ("{{ raise_exception('no answers') }}", "<|end|>"),
    "divides by zero": ("{{ 1 / 0 }}", "<|end|>"),
    "no template": (None, "<|end|>"),
}  # fmt: skip


@pytest.mark.parametrize("bpe", ["bytes", "metaspace"])
@pytest.mark.parametrize(("template", "expected"), EVERY.values(), ids=EVERY.keys())
def test_the_first_special_token_after_an_answer(bpe: Any, template: str | None, expected: str) -> None:
    tokenizer = make_tokenizer(bpe, bos=True, pad=True, chat="none")
    tokenizer.add_tokens(["<stop>"])
    tokenizer.chat_template = template
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids(expected)


def test_without_any_there_is_none() -> None:
    tokenizer = make_tokenizer("bytes", bos=False, pad=True, chat="none")
    tokenizer.eos_token = None
    assert end_of_turn(tokenizer) is None
