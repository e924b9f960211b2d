"""A strategy's processors on a ragged batch: each row as if its prompt stood alone, by the stock list."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation import logits_process as stock

from harness.config.effective import effective_decoding
from harness.config.point import Decoding
from harness.decoding.processors import Processors, QuickMinNewTokens, stock_processors, strategy_config
from harness.decoding.scores import Scores
from harness.decoding.truncation import Truncations

V = 60
PROMPTS = (3, 9, 5, 9, 1)


@pytest.fixture(scope="module")
def model() -> Any:
    """Only asked how `generate` builds its processors."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=8, n_layer=1, n_head=1, n_positions=64))


@pytest.mark.parametrize("new_tokens", [0, 3, 8])
@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 1.7, "min_new_tokens": 4, "do_sample": True, "top_p": 0.8},
        {"min_new_tokens": 4},
        {"min_new_tokens": 4, "no_repeat_ngram_size": 2},
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "repetition_penalty": 0.8},
        {"no_repeat_ngram_size": 1, "do_sample": True, "typical_p": 0.7},
        {"exponential_decay_length_penalty": (2, 1.4), "repetition_penalty": 1.2},
        {"begin_suppress_tokens": (4, 5), "suppress_tokens": (6,), "min_new_tokens": 2},
    ],
    ids=str,
)
def test_rows_are_warped_as_if_alone(model: Any, fields: dict[str, Any], new_tokens: int) -> None:
    luck = random.Random(new_tokens)
    config = strategy_config(
        effective_decoding(Decoding(name="x", **fields)),
        max_new_tokens=20,
        eos_token_ids=(0, 7),
        pad_token_id=0,
    )
    width = max(PROMPTS)
    texts = [[luck.randrange(1, V) for _ in range(length + new_tokens)] for length in PROMPTS]
    padded = torch.tensor([[0] * (width + new_tokens - len(ids)) + ids for ids in texts])
    scores = torch.randn(len(texts), V, generator=torch.Generator().manual_seed(new_tokens)) * 3
    before = scores.clone()
    processors = Processors(model, config, "cpu")
    together = processors(padded, scores, PROMPTS, width)
    if processors.cuts is not None:
        warped, together = Scores(together), torch.full_like(scores, float("-inf"))
        for some, kept in Truncations([processors.cuts], "cpu")(warped, [0] * len(texts)):
            together[some] = together[some].scatter_(1, kept.tokens, kept.scores)
    assert torch.equal(scores, before), "the scores that came in are left as they are"
    for row, (ids, length) in enumerate(zip(texts, PROMPTS, strict=True)):
        alone = stock_processors(model, config, length, "cpu")(
            torch.tensor([ids]), scores[row : row + 1].clone()
        )
        assert torch.equal(together[row : row + 1], alone), row


def test_a_minimum_length_bans_the_end_and_then_is_gone() -> None:
    scores = torch.randn(8, 500)
    ids = torch.zeros((8, 9), dtype=torch.long)
    for least in (1, 3, 4, 5):
        slow = stock.MinNewTokensLengthLogitsProcessor(5, least, [3, 17, 504])
        fast = QuickMinNewTokens(slow)
        assert torch.equal(fast(ids, scores), slow(ids, scores))
        assert (fast(ids, scores) is scores) == (least <= 4)
