"""Decoding on a CUDA device, compared with stock `generate`, a float64 pass, and the CPU's noise."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.hf.beams import beam_search
from harness.backends.hf.constrained_beams import ConstrainedBeams
from harness.backends.hf.contrastive_search import contrastive_search
from harness.backends.hf.cuda_graphs import StaticSteps
from harness.backends.hf.diverse_beams import DiverseBeams
from harness.backends.hf.search_outputs import search_outputs
from harness.backends.hf.self_test import tree_is_right
from harness.backends.hf.stochastic_beams import StochasticBeams
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import draw, gumbel, noise_key

KINDS = ("llama", "qwen2", "mistral", "gpt2")


def stock(loaded: Any, ids: tuple[int, ...], **fields: Any) -> tuple[int, ...]:
    eos = loaded.tokenizer.eos_token_id
    output = loaded.model.generate(
        input_ids=torch.tensor([ids], device=loaded.device),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=loaded.device),
        do_sample=False,
        max_new_tokens=16,
        eos_token_id=eos,
        pad_token_id=loaded.tokenizer.pad_token_id,
        **fields,
    )
    generated = output[0, len(ids) :].tolist()
    return tuple(generated[: generated.index(eos) + 1] if eos in generated else generated)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields", [{}, {"repetition_penalty": 1.3}], ids=str)
def test_greedy_equals_stock(
    kind: str, fields: dict, on_device: Any, requests_of: Any, strategy_of: Any
) -> None:
    loaded = on_device(kind)
    requests = requests_of(loaded, strategy_of(loaded, **fields))
    expected = [stock(loaded, request.prompt.ids, **fields) for request in requests]
    for run in (decode_tree, stock_generate):
        samples = run(loaded, requests, Detokenizer(loaded.tokenizer))
        assert [sample.token_ids for sample in samples] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_self_test_at_load_passes(kind: str, on_device: Any) -> None:
    loaded = on_device(kind)
    assert tree_is_right(loaded, Detokenizer(loaded.tokenizer))


@pytest.mark.parametrize("kind", KINDS)
def test_beams_equal_stock(kind: str, on_device: Any, requests_of: Any, strategy_of: Any) -> None:
    loaded = on_device(kind)
    requests = requests_of(loaded, strategy_of(loaded, num_beams=3))
    samples = beam_search(loaded, requests, Detokenizer(loaded.tokenizer))
    expected = [stock(loaded, request.prompt.ids, num_beams=3) for request in requests]
    assert [sample.token_ids for sample in samples] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_searches_equal_those_without_a_cache(
    kind: str, on_device: Any, requests_of: Any, strategy_of: Any
) -> None:
    loaded = on_device(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    groups = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0}
    searches: list[tuple[Any, dict[str, Any]]] = [
        (contrastive_search, {"penalty_alpha": 0.6, "top_k": 4}),
        (partial(search_outputs, DiverseBeams), groups),
        (partial(search_outputs, ConstrainedBeams), {"num_beams": 4, "force_words_ids": ((7,), (9, 8))}),
        (partial(search_outputs, StochasticBeams), {"do_sample": True, "stochastic_beams": True}),
    ]
    for run, fields in searches:
        requests = requests_of(loaded, strategy_of(loaded, **fields))
        together = run(loaded, requests, detokenizer)
        for request, sample in zip(requests, together, strict=True):
            (alone,) = run(loaded, [request], detokenizer, use_cache=False)
            assert sample.token_ids == alone.token_ids


def test_noise_is_the_cpus(device: str) -> None:
    generator = torch.Generator().manual_seed(6)
    states = torch.randint(-(2**63), 2**63 - 1, (16, 1), generator=generator)
    tokens = torch.arange(5000)
    found = gumbel(states.to(device), tokens.to(device)).cpu()
    # Two logarithms may differ in their last bits.
    torch.testing.assert_close(found, gumbel(states, tokens), rtol=1e-14, atol=1e-14)


def test_draws_equal_the_cpus(device: str) -> None:
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(64, 5000, generator=generator) * 3
    truncated = scores.masked_fill(torch.rand(scores.shape, generator=generator) < 0.9, float("-inf"))
    keys = torch.tensor([noise_key(1, f"p{row}", 0) for row in range(64)])
    for step in range(8):
        for logits in (scores, truncated):
            on_device = draw(logits.to(device), keys.to(device), step)
            assert on_device.cpu().equal(draw(logits, keys, step))


@pytest.mark.parametrize("fields", [{"top_p": 0.9}, {"typical_p": 0.9}, {"temperature": 1.5}], ids=str)
def test_samples_do_not_depend_on_the_batch(
    fields: dict, on_device: Any, requests_of: Any, strategy_of: Any
) -> None:
    loaded = on_device("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    requests = requests_of(loaded, strategy_of(loaded, do_sample=True, **fields), samples=2)
    others = requests_of(loaded, strategy_of(loaded, do_sample=True, min_p=0.1), samples=2)
    together = decode_tree(loaded, [*requests, *others], detokenizer)[: len(requests)]
    for request, sample in zip(requests, together, strict=True):
        (alone,) = decode_tree(loaded, [request], detokenizer)
        assert sample.token_ids == alone.token_ids


@pytest.mark.parametrize("fields", [{}, {"do_sample": True, "top_k": 4}, {"num_beams": 3}], ids=str)
def test_recorded_numbers_are_those_of_a_float64_pass(
    fields: dict, on_device: Any, requests_of: Any, strategy_of: Any
) -> None:
    loaded = on_device("llama")
    model64 = copy.deepcopy(loaded.model).cpu().double()
    requests = requests_of(loaded, strategy_of(loaded, **fields))
    run = beam_search if "num_beams" in fields else decode_tree
    samples = run(loaded, requests, Detokenizer(loaded.tokenizer))
    for request, sample in zip(requests, samples, strict=True):
        ids = [*request.prompt.ids, *sample.token_ids]
        with torch.inference_mode():
            raw = model64(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
        for t, token in enumerate(sample.token_ids):
            p = raw[len(request.prompt.ids) + t - 1]
            assert sample.steps.logprob[t] == pytest.approx(p[token], abs=1e-4)
            assert sample.steps.entropy[t] == pytest.approx(-(np.exp(p) * p).sum(), abs=1e-4)
            ties = int((np.abs(p - p[token]) < 1e-5).sum()) - 1
            assert abs(sample.steps.rank[t] - 1 - int((p > p[token]).sum())) <= ties


@pytest.mark.only_cuda
@pytest.mark.parametrize("kind", KINDS)
def test_captured_steps_give_the_same_samples(
    kind: str, on_device: Any, requests_of: Any, strategy_of: Any
) -> None:
    loaded = on_device(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    fields: list[dict[str, Any]] = [{}, {"repetition_penalty": 1.3}, {"do_sample": True, "top_p": 0.9}]
    strategies = [strategy_of(loaded, **some) for some in fields]
    requests = [request for strategy in strategies for request in requests_of(loaded, strategy)]
    captured = decode_tree(loaded, requests, detokenizer, static_steps=StaticSteps())
    for found, expected in zip(captured, decode_tree(loaded, requests, detokenizer), strict=True):
        assert found.token_ids == expected.token_ids
        np.testing.assert_allclose(found.steps.logprob, expected.steps.logprob, atol=1e-4)
