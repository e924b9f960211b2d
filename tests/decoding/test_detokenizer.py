"""Pieces of text: they join to the output, whatever the tokenizer does with spaces and bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.decoding.detokenizer import Detokenizer


@pytest.fixture(scope="module", params=["bytes", "metaspace"])
def tokenizer(request: pytest.FixtureRequest, small_model: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(small_model("llama", bpe=request.param))


@pytest.mark.parametrize(
    "text", ["It was a dark night, said the fox.", "Café 🦊 naïve", "  two  spaces\n\nlines\t"]
)
def test_pieces_of_real_text(tokenizer: Any, text: str) -> None:
    prompt = tokenizer("Once upon a time")["input_ids"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    told = Detokenizer(tokenizer).output_text(prompt, ids)
    assert "".join(told.pieces) == told.output
    assert text.strip() in told.output
    assert len(told.pieces) == len(ids)


def test_a_character_split_over_tokens_is_told_by_the_last_of_them(tokenizer: Any) -> None:
    prompt = tokenizer("the")["input_ids"]
    ids = tokenizer("a🦊b", add_special_tokens=False)["input_ids"]
    pieces = Detokenizer(tokenizer).output_text(prompt, ids).pieces
    assert "🦊" in pieces
    place = pieces.index("🦊")
    assert pieces[place - 3 : place] == ("", "", "")
    assert pieces[place + 1] == "b"


def test_special_tokens_are_no_text(tokenizer: Any) -> None:
    prompt = tokenizer("the")["input_ids"]
    ids = [*tokenizer("fox", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    told = Detokenizer(tokenizer).output_text(prompt, ids)
    assert told.pieces[-1] == ""
    assert told.output.strip() == "fox"


def test_alternatives_keep_their_leading_space(tokenizer: Any) -> None:
    texts = Detokenizer(tokenizer)
    (ids,) = [tokenizer("the night", add_special_tokens=False)["input_ids"]]
    assert "".join(texts.alone(id_) for id_ in ids).endswith("the night")
    assert texts.alone(tokenizer.eos_token_id) == tokenizer.eos_token


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_ids_at_all(tokenizer: Any, data: st.DataObject) -> None:
    token = st.integers(0, len(tokenizer) - 1)
    prompt = data.draw(st.lists(token, min_size=1, max_size=6))
    ids = data.draw(st.lists(token, min_size=1, max_size=20))
    texts = Detokenizer(tokenizer)
    told = texts.output_text(prompt, ids)
    assert "".join(told.pieces) == told.output
    assert len(told.pieces) == len(ids)
    before, whole = texts.decode(prompt), texts.decode([*prompt, *ids])
    if whole.startswith(before):
        assert told.output == whole[len(before) :]
