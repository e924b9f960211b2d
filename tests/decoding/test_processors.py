"""A strategy's processors on a ragged batch: each row as if its prompt were alone, by the stock list."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from sampled import dense
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel
from transformers.generation import logits_process as stock

from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.fast_processors import FastMinNewTokens, FastRepetitionPenalty, fast_processor
from harness.decoding.logits import Logits
from harness.decoding.processors import Processors, stock_processors
from harness.decoding.sampler_chain import SamplerChain
from harness.decoding.texts import Texts

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
    effective = effective_decoding(Decoding(name="x", **fields))
    expected, found = warped(model, effective, new_tokens, V)
    assert torch.equal(expected, found)


RANDOM_FIELDS: dict[str, tuple[Any, ...]] = {
    "do_sample": (True, True, True, False),
    "temperature": (1.0, 0.6, 1.4),
    "top_k": (0, 5, 70, 500),
    "top_p": (1.0, 0.5, 0.95),
    "min_p": (None, 0.0, 0.05),
    "typical_p": (1.0, 0.7, 0.95),
    "epsilon_cutoff": (0.0, 1e-3),
    "eta_cutoff": (0.0, 1e-2),
    "top_h": (None, None, 0.6),
    "repetition_penalty": (1.0, 1.3),
    "no_repeat_ngram_size": (0, 2),
    "min_new_tokens": (None, 4),
    "bad_words_ids": (None, [[3], [5, 6]]),
    "suppress_tokens": (None, [9, 10]),
    "begin_suppress_tokens": (None, [4]),
    "exponential_decay_length_penalty": (None, [2, 1.4]),
    "renormalize_logits": (False, False, True),
    "remove_invalid_values": (False, True),
    "sequence_bias": (None, [[[3], 2.0], [[5, 6], -4.0]]),
}


@pytest.mark.parametrize("seed", range(60))
def test_random_strategies_equal_the_stock_list(model: Any, seed: int) -> None:
    """What is split into stock processors and a truncation does what the whole stock list does."""
    rng = random.Random(seed)
    fields = {name: rng.choice(values) for name, values in RANDOM_FIELDS.items()}
    effective = {**effective_decoding(Decoding(name="x")), **fields}
    expected, found = warped(model, effective, rng.choice([0, 3]), 2000)
    differs = found.isfinite() != expected.isfinite()
    assert bool((differs.sum(-1) <= 1).all()), "but for the rounding of a sum at a threshold"
    # a constant added to all logits is none to a distribution
    shift = (found.amax(-1) - expected.amax(-1)) * (fields["renormalize_logits"] and fields["do_sample"])
    torch.testing.assert_close((found - shift[:, None])[~differs], expected[~differs])


def warped(
    model: Any, effective: dict[str, Any], new_tokens: int, vocab_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a ragged batch, warped row by row by the whole stock list, and together by ours."""
    rng = random.Random(new_tokens)
    config = GenerationConfig(**effective, max_new_tokens=20, eos_token_id=[0, 7], pad_token_id=0)
    width = max(PROMPTS)
    sequences = [[rng.randrange(1, V) for _ in range(length + new_tokens)] for length in PROMPTS]
    padded = torch.tensor([[0] * (width + new_tokens - len(ids)) + ids for ids in sequences])
    generator = torch.Generator().manual_seed(new_tokens)
    scores = torch.randn(len(sequences), vocab_size, generator=generator) * 3
    before = scores.clone()
    processors = Processors(model, config, "cpu")
    texts = Texts(padded, PROMPTS, width)
    together = processors(texts, scores)
    assert torch.equal(processors(texts, scores.clone(), overwrite=True), together)
    assert not processors.neutral or (together is scores and processors.samplers is None)
    if processors.samplers is not None:
        found = SamplerChain([processors.samplers], "cpu")(Logits(together), [0] * len(sequences))
        together = dense(found, scores)
    assert torch.equal(scores, before), "the scores that came in are not changed"
    alone = [
        stock_processors(model, config, length, "cpu")(torch.tensor([ids]), scores[row : row + 1].clone())
        for row, (ids, length) in enumerate(zip(sequences, PROMPTS, strict=True))
    ]
    return torch.cat(alone), together


def test_a_minimum_length_bans_the_end_until_it_is_reached() -> None:
    scores = torch.randn(8, 500)
    ids = torch.zeros((8, 9), dtype=torch.long)
    for least in (1, 3, 4, 5):
        slow = stock.MinNewTokensLengthLogitsProcessor(5, least, [3, 17, 504])
        fast = FastMinNewTokens(slow)
        assert torch.equal(fast(ids, scores), slow(ids, scores))
        assert (fast(ids, scores) is scores) == (least <= 4)


def test_a_head_that_lacks_ids_is_penalized_as_by_the_stock_processor(model: Any) -> None:
    """Some models read more ids than they write, as those of images."""
    scores = torch.randn(3, V - 7, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, V - 1, 4], [5, 5, V - 7], [0, 1, 2]])
    penalty = stock.RepetitionPenaltyLogitsProcessor(1.7)
    fast = fast_processor(penalty, model)
    assert isinstance(fast, FastRepetitionPenalty)
    assert torch.equal(fast(ids, scores), penalty(ids, scores))


def test_a_penalty_that_ignores_the_prompt_stays_the_stock_one(model: Any) -> None:
    penalty = stock.RepetitionPenaltyLogitsProcessor(1.7, prompt_ignore_length=2)
    assert fast_processor(penalty, model) is penalty
