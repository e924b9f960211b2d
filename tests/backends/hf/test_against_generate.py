"""Greedy, penalties and beams equal stock `generate`, one prompt at a time, token for token, in fp32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf.beams import beam_search
from harness.backends.hf.methods import Beams
from harness.backends.hf.stock_generate import stock_generate
from harness.decoding.detokenizer import Detokenizer

GREEDY = [
    {},
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2},
    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "min_new_tokens": 6},
    {"suppress_tokens": (5, 6, 7, 8)},
    {"begin_suppress_tokens": (3, 4, 5)},
    {"exponential_decay_length_penalty": (4, 1.4)},
]
BEAMS = [
    {"num_beams": 4},
    {"num_beams": 3, "early_stopping": True, "length_penalty": 0.5},
    {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 4, "repetition_penalty": 2.0},
    {"num_beams": 2, "no_repeat_ngram_size": 2},
]
KINDS = ("llama", "qwen2", "mistral", "gpt2")


def stock(
    loaded: Any, ids: tuple[int, ...], fields: dict[str, Any], budget: int
) -> tuple[tuple[int, ...], float]:
    """What `generate` makes of a single prompt, and its beam score."""
    eos = loaded.tokenizer.eos_token_id
    output = loaded.model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=budget,
        eos_token_id=eos,
        pad_token_id=loaded.tokenizer.pad_token_id,
        return_dict_in_generate=True,
        output_scores=True,
        **{
            key: list(value) if key.endswith("tokens") and isinstance(value, tuple) else value
            for key, value in fields.items()
        },
    )
    generated = output.sequences[0, len(ids) :].tolist()
    if eos in generated:
        generated = generated[: generated.index(eos) + 1]
    score = output.sequences_scores[0].item() if fields.get("num_beams", 1) > 1 else 0.0
    return tuple(generated), score


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields", GREEDY, ids=str)
def test_greedy_rows(kind: str, fields: dict, loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model(kind)
    prompts = prompts_of(loaded)
    assert len({len(prompt.ids) for prompt in prompts}) > 2, "the batch is meant to be ragged"
    strategy = strategy_of(loaded, **fields)
    requests = [Request(prompt, 0, strategy) for prompt in prompts]
    samples = stock_generate(loaded, requests, Detokenizer(loaded.tokenizer))
    assert [sample.token_ids for sample in samples] == [
        stock(loaded, prompt.ids, fields, 20)[0] for prompt in prompts
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields", BEAMS, ids=str)
def test_beams(kind: str, fields: dict, loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model(kind)
    prompts = prompts_of(loaded)
    strategy = strategy_of(loaded, **fields)
    requests = [Request(prompt, 0, strategy) for prompt in prompts]
    together = Beams().batches_requests(strategy.effective, None)
    batches = [requests] if together else [[request] for request in requests]
    detokenizer = Detokenizer(loaded.tokenizer)
    samples = [sample for batch in batches for sample in beam_search(loaded, batch, detokenizer)]
    for prompt, sample in zip(prompts, samples, strict=True):
        tokens, score = stock(loaded, prompt.ids, fields, 20)
        assert sample.token_ids == tokens
        assert sample.sequence_score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("fields", [{}, {"num_beams": 3}, {"repetition_penalty": 1.5}], ids=str)
@pytest.mark.parametrize("model", ["fable_tiny", "fable_small"])
def test_fable(model: str, fields: dict, strategy_of: Any) -> None:
    from transformers import GenerationConfig

    from harness.config.point import Model, Prompts, Quantization
    from harness.models.load import load
    from harness.models.locate import locate
    from harness.prompts import prepare_prompts

    choice = Model(name=model, id=model, device="cpu")
    loaded = load(choice, Quantization(name="fp32", dtype="float32"), None)
    loaded.model.generation_config = GenerationConfig()
    source = Prompts(
        name="x", items=("It was a dark and stormy", "Portugal is", "A list of colors: red, blue")
    )
    prompts = prepare_prompts(source, locate(choice), loaded.tokenizer, 30).prompts
    strategy = strategy_of(loaded, max_new_tokens=30, **fields)
    requests = [Request(prompt, 0, strategy) for prompt in prompts]
    run = beam_search if strategy.effective["num_beams"] > 1 else stock_generate
    for prompt, sample in zip(prompts, run(loaded, requests, Detokenizer(loaded.tokenizer)), strict=True):
        assert sample.token_ids == stock(loaded, prompt.ids, fields, 30)[0]
