"""The mask of a grammar, against every token's text tried one by one with `regex`."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import regex
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.config.structure import Structure
from harness.decoding.grammar_mask import GrammarMask
from harness.decoding.processors import Processors
from harness.decoding.texts import Texts
from harness.decoding.vocabulary import Vocabulary

pytest.importorskip("llguidance")

FOLDER = Path(__file__).parents[2] / "harness/models/fable/fable_tiny"
V = 2048
PROMPT = 7


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return PreTrainedTokenizerFast.from_pretrained(str(FOLDER))


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any) -> Vocabulary:
    return Vocabulary(tokenizer)


def mask_of(vocabulary: Vocabulary, name: str, text: str, eos: tuple[int, ...] = (2,)) -> GrammarMask:
    return GrammarMask(Structure(name, text), vocabulary, eos)  # type: ignore[arg-type]


def texts_of(*outputs: Any) -> Texts:
    """Outputs of one length after one token of prompt."""
    return Texts(torch.tensor([[PROMPT, *output] for output in outputs]), [1] * len(outputs), 1)


PATTERNS = (r" ?(night|morning)s? [a-z]{3,6}\.", r"[A-Z][a-z ]{2,20}[.!?]", r"(?s:.{1,30})")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_allows_what_can_still_match(pattern: str, vocabulary: Vocabulary, tokenizer: Any) -> None:
    """Along a random walk: no token that cannot match, and all that can where several first bytes may follow.

    Where one byte alone may follow llguidance allows only the canonical tokens of what is forced.
    """
    mask = mask_of(vocabulary, "regex", pattern)
    compiled = regex.compile(pattern)
    pieces = vocabulary.texts
    generator = torch.Generator().manual_seed(1)
    walks = complete = 0
    for _ in range(6):
        ids: list[int] = []
        for _ in range(12):
            allowed = mask.allowed(texts_of(ids), V)[0]
            text = tokenizer.decode(ids)
            possible = {
                token
                for token, piece in enumerate(pieces)
                if piece and "�" not in piece and compiled.fullmatch(text + piece, partial=True)
            }
            found = {token for token in allowed.nonzero()[:, 0].tolist() if token != 2}
            readable = {token for token in found if "�" not in pieces[token]}
            assert readable <= possible
            assert bool(allowed[2]) == bool(compiled.fullmatch(text))
            if len({pieces[token][0] for token in possible}) > 1:
                assert readable == possible
                walks += 1
            if not readable:
                complete += 1
                break
            choice = torch.randint(len(readable), (1,), generator=generator)
            ids.append(sorted(readable)[int(choice)])
    assert walks > 10


def test_a_forced_text_is_left_with_canonical_tokens(vocabulary: Vocabulary, tokenizer: Any) -> None:
    mask = mask_of(vocabulary, "choices", '[" night"]')
    allowed = mask.allowed(texts_of([]), V)[0].nonzero()[:, 0].tolist()
    assert set(tokenizer.encode(" night", add_special_tokens=False)) <= set(allowed)
    assert all(" night".startswith(tokenizer.decode([token])) for token in allowed)


def test_what_is_complete_ends(vocabulary: Vocabulary, tokenizer: Any) -> None:
    """EOS alone after a complete text, after EOS, and after a token that was not allowed; never an error."""
    mask = mask_of(vocabulary, "choices", '[" night"]', eos=(2, 3))
    night = tokenizer.encode(" night", add_special_tokens=False)
    for ids in (night, [*night, 3], [*night, 2, 2, 2], [5], [5, 9, 9]):
        assert mask.allowed(texts_of(ids), V)[0].nonzero()[:, 0].tolist() == [2, 3]


def test_ids_of_padding_are_never_allowed(vocabulary: Vocabulary) -> None:
    allowed = mask_of(vocabulary, "regex", "(?s:.*)").allowed(texts_of([]), V)[0]
    assert not allowed[len(vocabulary.texts) :].any()


def test_a_grammar_of_everything_masks_no_text(vocabulary: Vocabulary) -> None:
    """All but special tokens, and bytes that no UTF-8 text begins with."""
    logits = torch.randn((1, V), generator=torch.Generator().manual_seed(0))
    mask = mask_of(vocabulary, "regex", "(?s:.*)")
    left = mask(texts_of([]), logits, logits)
    texts = [token for token, text in enumerate(vocabulary.texts) if text and "�" not in text]
    assert len(texts) > 1900
    assert torch.equal(left[0, texts], logits[0, texts])
    assert left[0, 2] == logits[0, 2]


def test_it_depends_on_the_text_alone(vocabulary: Vocabulary, tokenizer: Any) -> None:
    """Rows that split, move, vanish and come back; a call with all of them; a fresh mask each time."""
    schema = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}'
    outputs = ['{"a":"', '{"a":"the', '{"a":"the night"}', '{"a":"a', "{"]
    ids = [tokenizer.encode(output, add_special_tokens=False) for output in outputs]
    prefixes = [one[:length] for one in ids for length in range(len(one) + 1)]
    fresh = {
        tuple(p): mask_of(vocabulary, "json_schema", schema).allowed(texts_of(p), V)[0] for p in prefixes
    }
    mask = mask_of(vocabulary, "json_schema", schema)
    by_length = {n: [p for p in prefixes if len(p) == n] for n in {len(p) for p in prefixes}}
    for rows in [*by_length.values(), by_length[2][::-1], by_length[0], by_length[max(by_length)]]:
        found = mask.allowed(texts_of(*rows), V)
        for row, expected in zip(found, rows, strict=True):
            assert torch.equal(row, fresh[tuple(expected)])


def test_the_grammar_comes_before_other_rules(vocabulary: Vocabulary, tokenizer: Any) -> None:
    """Where a penalty has removed all that is allowed, the raw logits of that are left."""
    mask = mask_of(vocabulary, "choices", '["a","b"]')
    raw = torch.randn((2, V), generator=torch.Generator().manual_seed(0))
    a, b = (tokenizer.encode(text, add_special_tokens=False)[0] for text in "ab")
    logits = raw.clone()
    logits[0, [a, b]] = -math.inf
    logits[1, a] = -math.inf
    left = mask(texts_of([], []), logits, raw)
    assert left[0, [a, b]].tolist() == raw[0, [a, b]].tolist()
    assert left[1, [a, b]].tolist() == [-math.inf, float(raw[1, b])]
    assert (left > -math.inf).sum(-1).tolist() == [2, 1]


def test_what_is_left_is_as_the_model_gave_it(vocabulary: Vocabulary, tokenizer: Any) -> None:
    """Also of logits that penalties may write over."""
    a, b = (tokenizer.encode(text, add_special_tokens=False)[0] for text in "ab")
    decoding = Decoding(name="x", choices=("a", "b"), logit_bias={a: 3.0}, suppress_tokens=(a, b))
    model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=8, n_layer=1, n_head=1, n_positions=16))
    config = GenerationConfig(**effective_decoding(decoding), eos_token_id=[2], pad_token_id=2)
    raw = torch.randn((1, V), generator=torch.Generator().manual_seed(0))
    processors = Processors(model, config, "cpu", vocabulary)
    left = processors(texts_of([]), raw.clone(), overwrite=True)
    assert left[0, [a, b]].tolist() == raw[0, [a, b]].tolist()
    assert int((left > -math.inf).sum()) == 2


def test_the_prompt_does_not_count(vocabulary: Vocabulary) -> None:
    mask = mask_of(vocabulary, "regex", "[0-9]+")
    ragged = Texts(torch.tensor([[0, 0, 9, 4], [5, 6, 7, 8]]), [2, 4], 4)
    rows = mask.allowed(ragged, V)
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], mask.allowed(texts_of([]), V)[0])


def test_rows_of_the_same_text_are_matched_once(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = mask_of(vocabulary, "regex", "[a-z]+")
    calls = itertools.count()
    inner = mask._mask
    monkeypatch.setattr(mask, "_mask", lambda *args: (next(calls), inner(*args))[1])
    mask.allowed(texts_of([], [], []), V)
    mask.allowed(texts_of([]), V)
    assert next(calls) == 1
