"""The engine on a CUDA device, against stock `generate`, a float64 pass, and the CPU's luck."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.hf.beams import search
from harness.backends.hf.self_test import handles
from harness.backends.hf.stock_generate import decode_rows
from harness.backends.hf.tree import Text, decode_tree
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import draw, noise_key

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
def test_greedy_equals_stock(kind: str, fields: dict, on_device: Any, rows_of: Any, strategy_of: Any) -> None:
    loaded = on_device(kind)
    rows, strategy, texts = rows_of(loaded), strategy_of(loaded, **fields), Detokenizer(loaded.tokenizer)
    wanted = [stock(loaded, row.prompt.ids, **fields) for row in rows]
    for samples in (
        decode_tree(loaded, [Text(strategy, row) for row in rows], texts),
        decode_rows(loaded, strategy, rows, texts),
    ):
        assert [sample.token_ids for sample in samples] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_the_self_test_at_load_passes(kind: str, on_device: Any) -> None:
    loaded = on_device(kind)
    assert handles(loaded, Detokenizer(loaded.tokenizer))


@pytest.mark.parametrize("kind", KINDS)
def test_beams_equal_stock(kind: str, on_device: Any, rows_of: Any, strategy_of: Any) -> None:
    loaded = on_device(kind)
    rows = rows_of(loaded)
    samples = search(loaded, strategy_of(loaded, num_beams=3), rows, Detokenizer(loaded.tokenizer))
    assert [s.token_ids for s in samples] == [stock(loaded, row.prompt.ids, num_beams=3) for row in rows]


def test_draws_are_the_cpus(device: str) -> None:
    luck = torch.Generator().manual_seed(5)
    scores = torch.randn(64, 5000, generator=luck) * 3
    cut = scores.masked_fill(torch.rand(scores.shape, generator=luck) < 0.9, float("-inf"))
    keys = torch.tensor([noise_key(1, f"p{row}", 0) for row in range(64)])
    for step in range(8):
        for some in (scores, cut):
            there = draw(some.to(device), keys.to(device), step)
            assert there.cpu().equal(draw(some, keys, step))


@pytest.mark.parametrize("fields", [{"top_p": 0.9}, {"typical_p": 0.9}, {"temperature": 1.5}], ids=str)
def test_samples_do_not_depend_on_company(
    fields: dict, on_device: Any, rows_of: Any, strategy_of: Any
) -> None:
    loaded = on_device("llama")
    texts, strategy = Detokenizer(loaded.tokenizer), strategy_of(loaded, do_sample=True, **fields)
    rows = rows_of(loaded, samples=2)
    others = [Text(strategy_of(loaded, do_sample=True, min_p=0.1), row) for row in rows]
    together = decode_tree(loaded, [*(Text(strategy, row) for row in rows), *others], texts)[: len(rows)]
    for row, sample in zip(rows, together, strict=True):
        (alone,) = decode_tree(loaded, [Text(strategy, row)], texts)
        assert sample.token_ids == alone.token_ids


@pytest.mark.parametrize("fields", [{}, {"do_sample": True, "top_k": 4}, {"num_beams": 3}], ids=str)
def test_recorded_numbers_are_those_of_a_float64_pass(
    fields: dict, on_device: Any, rows_of: Any, strategy_of: Any
) -> None:
    loaded = on_device("llama")
    model64 = copy.deepcopy(loaded.model).cpu().double()
    rows, strategy, texts = rows_of(loaded), strategy_of(loaded, **fields), Detokenizer(loaded.tokenizer)
    if strategy.beams > 1:
        samples = search(loaded, strategy, rows, texts)
    else:
        samples = decode_tree(loaded, [Text(strategy, row) for row in rows], texts)
    for row, sample in zip(rows, samples, strict=True):
        ids = [*row.prompt.ids, *sample.token_ids]
        with torch.inference_mode():
            raw = model64(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
        for t, token in enumerate(sample.token_ids):
            p = raw[len(row.prompt.ids) + t - 1]
            assert sample.steps.logprob[t] == pytest.approx(p[token], abs=1e-4)
            assert sample.steps.entropy[t] == pytest.approx(-(np.exp(p) * p).sum(), abs=1e-4)
            ties = int((np.abs(p - p[token]) < 1e-5).sum()) - 1
            assert abs(sample.steps.rank[t] - 1 - int((p > p[token]).sum())) <= ties


@pytest.mark.only_cuda
@pytest.mark.parametrize("kind", KINDS)
def test_captured_steps_give_the_same_samples(
    kind: str, on_device: Any, rows_of: Any, strategy_of: Any
) -> None:
    loaded = on_device(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    fields: list[dict[str, Any]] = [{}, {"repetition_penalty": 1.3}, {"do_sample": True, "top_p": 0.9}]
    strategies = [strategy_of(loaded, **some) for some in fields]
    texts = [Text(strategy, row) for strategy in strategies for row in rows_of(loaded)]
    captured = decode_tree(loaded, texts, detokenizer, capture=True)
    for found, expected in zip(captured, decode_tree(loaded, texts, detokenizer), strict=True):
        assert found.token_ids == expected.token_ids
        np.testing.assert_allclose(found.steps.logprob, expected.steps.logprob, atol=1e-4)
