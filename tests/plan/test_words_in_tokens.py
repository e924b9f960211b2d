"""Words that outputs are to hold, in the tokens of two kinds of tokenizers; what is refused before a run."""

from __future__ import annotations

from typing import Any

import pytest

from harness.artifacts.job import Job
from harness.config.decoding import Decoding
from harness.config.hydra_app import one_point
from harness.decoding.forced_words import words_of
from harness.errors import ConfigError
from harness.once import Once
from harness.plan.prepare import prepare
from harness.plan.words_in_tokens import forced_words


class Asked:
    """As much of a point as is needed."""

    def __init__(self, **fields: Any) -> None:
        self.decoding = Decoding(name="x", num_beams=4, **fields)
        self.model = type("Named", (), {"name": "small"})


@pytest.mark.parametrize("bpe", ["bytes", "metaspace"])
def test_alternatives_say_the_word_with_a_space_before_it_or_not(small_model: Any, bpe: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(small_model("llama", bpe=bpe))
    given = ("fox", " rain", "the old fox", "Café")
    found = forced_words(Asked(force_words=given), tokenizer)  # type: ignore[arg-type]
    assert found is not None
    for word, alternatives in zip(given, words_of(found), strict=True):
        texts = [tokenizer.decode(list(one)) for one in alternatives]
        assert {text.strip() for text in texts} == {word.strip()}
        assert len(set(alternatives)) == len(alternatives)
    ids = tokenizer("It was a fox", add_special_tokens=False)["input_ids"]
    assert any(tuple(ids[-len(one) :]) == one for one in words_of(found)[0])


def test_a_word_without_tokens_is_refused() -> None:
    class Latin:
        """A tokenizer of single letters."""

        unk_token_id = 0

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [ord(one) if ord(one) < 128 else 0 for one in text]}

        def decode(self, ids: list[int], clean_up_tokenization_spaces: bool) -> str:
            return "".join(map(chr, ids))

    asked = Asked(force_words=("fox", "\u65e5\u672c"))
    with pytest.raises(ConfigError, match="small has no tokens for '\u65e5\u672c'; remove it, or write"):
        forced_words(asked, Latin())  # type: ignore[arg-type]
    assert forced_words(Asked(force_words=("ox",)), Latin()) == [[[111, 120]]]  # type: ignore[arg-type]


def job(*words: str) -> Job:
    return prepare(one_point(["model=fable_tiny", "decoding=constrained_beam", *words]), Once())


def test_the_words_of_a_point_are_ids_in_its_address() -> None:
    words = job("decoding.force_words=[river]")
    (alternatives,) = words.effective["force_words_ids"]
    assert "force_words" not in words.effective
    ids = job("decoding.force_words=null", f"decoding.force_words_ids=[{alternatives}]")
    assert ids.effective == words.effective
    assert ids.point_id == words.point_id
    both = job("decoding.force_words=[river]", "decoding.force_words_ids=[[7,8]]")
    assert both.effective["force_words_ids"] == [[7, 8], alternatives]
    assert both.point_id != words.point_id


def test_what_cannot_be_is_refused() -> None:
    for words, line in (
        (
            ["decoding.force_words_ids=[[7,8,9],[[5],[4,3]]]", "generation.max_new_tokens=3"],
            "needs 5 tokens, and generation.max_new_tokens is 3; use generation.max_new_tokens=5",
        ),
        (
            ["decoding.force_words_ids=[[7,8],[5]]", "decoding.suppress_tokens=[8]"],
            "has a word that decoding.suppress_tokens forbids",
        ),
        (["decoding.force_words_ids=[[99999]]"], "decoding.force_words_ids: 99999: fable_tiny has no such"),
    ):
        with pytest.raises(ConfigError) as caught:
            job(*words)
        assert line in str(caught.value)
