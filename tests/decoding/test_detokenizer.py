"""Token texts join to the output, whatever the tokenizer does with spaces and bytes."""

from __future__ import annotations

from copy import copy
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
def test_token_texts_of_real_text(tokenizer: Any, text: str) -> None:
    prompt = tokenizer("Once upon a time")["input_ids"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = Detokenizer(tokenizer).output_text(prompt, ids)
    assert "".join(found.token_texts) == found.output
    assert text.strip() in found.output
    assert len(found.token_texts) == len(ids)


def test_a_character_split_over_tokens_belongs_to_the_last_of_them(tokenizer: Any) -> None:
    prompt = tokenizer("the")["input_ids"]
    ids = tokenizer("a🦊b", add_special_tokens=False)["input_ids"]
    texts = Detokenizer(tokenizer).output_text(prompt, ids).token_texts
    assert "🦊" in texts
    index = texts.index("🦊")
    assert texts[index - 3 : index] == ("", "", "")
    assert texts[index + 1] == "b"


def test_special_tokens_have_no_text(tokenizer: Any) -> None:
    prompt = tokenizer("the")["input_ids"]
    ids = [*tokenizer("fox", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    found = Detokenizer(tokenizer).output_text(prompt, ids)
    assert found.token_texts[-1] == ""
    assert found.output.strip() == "fox"


def test_alternatives_keep_their_leading_space(tokenizer: Any) -> None:
    detokenizer = Detokenizer(tokenizer)
    (ids,) = [tokenizer("the night", add_special_tokens=False)["input_ids"]]
    assert "".join(detokenizer.token_text(id_) for id_ in ids).endswith("the night")
    assert detokenizer.token_text(tokenizer.eos_token_id) == tokenizer.eos_token


def test_a_tokenizer_with_a_decode_of_its_own_is_asked(tokenizer: Any) -> None:
    class Shouting(type(tokenizer)):  # type: ignore[misc]
        def _decode(self, *arguments: Any, **options: Any) -> str:
            return super()._decode(*arguments, **options).upper()

    ids = tokenizer("the fox", add_special_tokens=False)["input_ids"]
    assert Detokenizer(tokenizer).decode(ids).strip() == "the fox"
    own = copy(tokenizer)
    own.__class__ = Shouting
    assert Detokenizer(own).decode(ids).strip() == "THE FOX"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_ids_at_all(tokenizer: Any, data: st.DataObject) -> None:
    token = st.integers(0, len(tokenizer) - 1)
    prompt = data.draw(st.lists(token, min_size=1, max_size=6))
    ids = data.draw(st.lists(token, min_size=1, max_size=70))  # several windows
    detokenizer = Detokenizer(tokenizer)
    found = detokenizer.output_text(prompt, ids)
    assert "".join(found.token_texts) == found.output
    assert len(found.token_texts) == len(ids)
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    assert detokenizer.decode(ids) == tokenizer.decode(ids, **options)
    before, text = detokenizer.decode(prompt), detokenizer.decode([*prompt, *ids])
    if text.startswith(before):
        assert found.output == text[len(before) :]
