"""What is shown of a growing text joins to its output, and nothing shown is ever taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.decoding.detokenizer import Detokenizer
from harness.decoding.streamed_text import StreamedText, held_back


@pytest.fixture(scope="module", params=["bytes", "metaspace"])
def tokenizer(request: pytest.FixtureRequest, small_model: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(small_model("llama", bpe=request.param))


def streamed(tokenizer: Any, prompt: str, ids: Sequence[int], stops: Sequence[str] = ()) -> list[str]:
    """Return what is shown with each token."""
    text = StreamedText(Detokenizer(tokenizer), tokenizer(prompt)["input_ids"], stops)
    return [
        "".join(piece.text for piece in text.add(token, last=n == len(ids) - 1))
        for n, token in enumerate(ids)
    ]


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_character_of_several_tokens_comes_whole(tokenizer: Any) -> None:
    ids = ids_of(tokenizer, "a🦊b")
    text = StreamedText(Detokenizer(tokenizer), tokenizer("the")["input_ids"])
    shown = [text.add(token, last=False) for token in ids]
    place, pieces = next((n, some) for n, some in enumerate(shown) if any("🦊" in one.text for one in some))
    assert shown[place - 3 : place] == [(), (), ()]  # the fox is four bytes, and four tokens
    assert [piece.text for piece in (*pieces, *(one for some in shown[place + 1 :] for one in some))] == [
        "🦊",
        "b",
    ]
    assert ids[: pieces[0].position + 1] == ids_of(tokenizer, "a🦊")


def test_a_byte_that_spoils_those_before(tokenizer: Any) -> None:
    """With byte fallback, one wrong byte makes a run of correct ones unreadable: none was shown."""
    fox = ids_of(tokenizer, "a🦊")
    ids = [*fox, fox[-1], *ids_of(tokenizer, "b")]
    output = Detokenizer(tokenizer).output(tokenizer("the")["input_ids"], ids)
    assert "\N{REPLACEMENT CHARACTER}" in output
    assert "".join(streamed(tokenizer, "the", ids)) == output


def test_a_character_that_never_ends_is_shown_at_the_end(tokenizer: Any) -> None:
    ids = ids_of(tokenizer, "a🦊")[:-1]
    shown = streamed(tokenizer, "the", ids)
    assert shown[-3:-1] == ["", ""]
    assert "".join(shown) == Detokenizer(tokenizer).output(tokenizer("the")["input_ids"], ids)
    assert shown[-1].startswith("\N{REPLACEMENT CHARACTER}")


def test_a_prompt_that_ends_inside_a_character(tokenizer: Any) -> None:
    ids = ids_of(tokenizer, "a🦊b")
    cut = len(ids) - 2
    text = StreamedText(Detokenizer(tokenizer), ids[:cut])
    pieces = [text.add(ids[cut], last=False), text.add(ids[cut + 1], last=True)]
    assert "".join(piece.text for some in pieces for piece in some) == "🦊b"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pieces_of_any_ids_join_to_the_output(tokenizer: Any, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=30))
    stops = data.draw(st.lists(st.text("aet .", min_size=1, max_size=4), max_size=3))
    prompt = "Once upon a time there was a girl who had a dog"
    output = Detokenizer(tokenizer).output(tokenizer(prompt)["input_ids"], ids)
    assert "".join(streamed(tokenizer, prompt, ids, stops)) == output


@pytest.mark.parametrize(
    ("text", "stops", "count"),
    [
        ("the red f", ["fox"], 1),
        ("the red fo", ["fox", "o"], 2),
        ("the red fox", ["fox"], 0),  # a whole one ends the text
        ("aaba", ["abab", "ba "], 3),
        ("x", ["xyz", "y"], 1),
        ("", ["a"], 0),
        ("end\n", ["\n\n"], 1),
    ],
)
def test_what_may_become_a_stop_string(text: str, stops: Sequence[str], count: int) -> None:
    assert held_back(text, stops) == count


def test_a_stop_string_is_never_shown_by_half(tokenizer: Any) -> None:
    words = "The old fox walked home through the rain. The old fog was cold."
    shown = streamed(tokenizer, "the", ids_of(tokenizer, words), ["old fog"])
    text = ""
    for piece in shown:
        text += piece
        for half in range(1, len("old fog")):
            assert not text.endswith("old fog"[:half]) or text.endswith("old fog")
    assert text.strip() == words
    assert any("old fog" in piece for piece in shown)


def test_pieces_belong_to_the_tokens_that_added_them(tokenizer: Any) -> None:
    detokenizer, prompt = Detokenizer(tokenizer), tokenizer("the")["input_ids"]
    ids = ids_of(tokenizer, "an old fox, and a dog")
    text = StreamedText(detokenizer, prompt, ["old foxes"])
    texts = [""] * len(ids)
    for n, token in enumerate(ids):
        for piece in text.add(token, last=n == len(ids) - 1):
            texts[piece.position] += piece.text
    assert tuple(texts) == detokenizer.output_text(prompt, ids).token_texts
