"""The tokenizer: lossless, one token per word, one BOS token, chats as trained."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer

from harness.models.fable import FABLE_MODELS, fable_folder
from tools.fable.bpe import SPECIALS, save_tokenizer, train_tokenizer
from tools.fable.corpus import draw_texts
from tools.fable.grammar import Grammar, units

CHAT = [
    {"role": "system", "content": "You are a pirate."},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "Arr!"},
    {"role": "user", "content": " Thank you! "},
]

FOREIGN = [
    "",
    " ",
    "  two spaces",
    "tab\tand\r\nline",
    "naïve café",
    "日本語",
    "👩‍🚀 12,345.67",
    "don't",
    "a_b",
    "\u0000",
]


@pytest.fixture(params=FABLE_MODELS)
def tokenizer(request: pytest.FixtureRequest, fables: dict) -> AutoTokenizer:
    return fables[request.param].tokenizer


def test_every_unit_is_one_token(tokenizer, grammar: Grammar) -> None:
    texts = draw_texts(grammar, "pieces", 1500)
    for text in texts:
        tokens = tokenizer(units(text), add_special_tokens=False)["input_ids"]
        assert all(len(token) == 1 for token in tokens)
        assert tokenizer(text)["input_ids"][1:] == [token for (token,) in tokens]


def test_every_word_of_the_lexicon_is_one_token(tokenizer, grammar: Grammar) -> None:
    words = {
        symbol.unit
        for category in grammar.lexicon.values()
        for word in category
        for symbol in grammar.form(word, None)
        if symbol.unit.isalpha()
    }
    assert len(words) > 150
    for word in words:
        assert len(tokenizer(" " + word, add_special_tokens=False)["input_ids"]) == 1, word


@pytest.mark.parametrize("text", FOREIGN)
def test_any_text_is_decoded_to_itself(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_text_begins_once(tokenizer) -> None:
    ids = tokenizer("It was a dark and stormy")["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert len(ids) == 7


def test_special_tokens_are_distinct(tokenizer) -> None:
    ids = tokenizer.convert_tokens_to_ids(list(SPECIALS))
    assert len(set(ids)) == len(SPECIALS)
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3
    assert tokenizer.padding_side == "left"
    assert tokenizer.model_max_length == 512


def test_a_rendered_chat_begins_once(tokenizer) -> None:
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|system|>You are a pirate.<|turn|><|user|>Who are you?<|turn|>"
        "<|assistant|>Arr!<|turn|><|user|>Thank you!<|turn|><|assistant|>"
    )
    ids = tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.apply_chat_template(CHAT, tokenize=False).endswith("Thank you!<|turn|>")


def test_an_unknown_role_is_refused(tokenizer) -> None:
    with pytest.raises(TemplateError, match="not tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "1"}], tokenize=False)


def test_training_is_repeatable(grammar: Grammar, tmp_path: Path) -> None:
    texts = draw_texts(grammar, "again", 300)
    first, second = train_tokenizer(texts), train_tokenizer(texts)
    assert first.to_str() == second.to_str()
    save_tokenizer(first, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = random.Random(0).choice(texts)
    assert loaded(text)["input_ids"] == first.encode(text).ids


def test_both_models_share_the_tokenizer() -> None:
    tiny, small = (fable_folder(name) / "tokenizer.json" for name in FABLE_MODELS)
    assert tiny.read_bytes() == small.read_bytes()
