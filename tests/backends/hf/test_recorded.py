"""Every recorded number against a float64 recomputation by a plain forward pass, unpadded."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf.beams import beam_search
from harness.backends.hf.rescore import score_prompt
from harness.backends.hf.stock_generate import stock_generate
from harness.decoding.detokenizer import Detokenizer

STRATEGIES = [
    {},
    {"repetition_penalty": 1.4},
    {"do_sample": True, "temperature": 0.7},
    {"do_sample": True, "top_p": 0.8, "temperature": 1.2},
    {"do_sample": True, "top_k": 4, "repetition_penalty": 1.2},
    {"num_beams": 3},
    {"num_beams": 3, "repetition_penalty": 1.3},
]


def log_softmax64(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def warp64(logits: np.ndarray, fields: dict[str, Any], seen: list[int]) -> np.ndarray:
    """The strategy's processors, implemented again in float64, for one step."""
    scores = log_softmax64(logits) if fields.get("num_beams", 1) > 1 else logits.copy()
    if penalty := fields.get("repetition_penalty"):
        for token in set(seen):
            scores[token] = scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
    if fields.get("do_sample"):
        scores = scores / fields.get("temperature", 1.0)
        if top_k := fields.get("top_k"):
            scores[scores < np.sort(scores)[-top_k]] = -np.inf
        if top_p := fields.get("top_p"):
            order = np.argsort(-scores)
            p = np.exp(log_softmax64(scores))[order]
            removed = np.cumsum(p) - p >= top_p  # likelier tokens already reach top_p
            scores[order[removed]] = -np.inf
    return log_softmax64(scores)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
@pytest.mark.parametrize("fields", STRATEGIES, ids=str)
def test_steps(kind: str, fields: dict, loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model(kind)
    model64 = copy.deepcopy(loaded.model).double()
    prompts = prompts_of(loaded)
    strategy = strategy_of(loaded, max_new_tokens=12, **fields)
    detokenizer = Detokenizer(loaded.tokenizer)
    requests = [Request(prompt, 0, strategy) for prompt in prompts]
    if strategy.effective["num_beams"] > 1:
        samples = [beam_search(loaded, [request], detokenizer)[0] for request in requests]
    else:
        samples = stock_generate(loaded, requests, detokenizer)
    for prompt, sample in zip(prompts, samples, strict=True):
        ids = [*prompt.ids, *sample.token_ids]
        with torch.no_grad():
            logits = model64(input_ids=torch.tensor([ids])).logits[0].numpy()
        steps = sample.steps
        assert len(steps) == len(sample.token_ids)
        assert steps.token_id.tolist() == list(sample.token_ids)
        for t, token in enumerate(sample.token_ids):
            position = len(prompt.ids) + t
            raw = log_softmax64(logits[position - 1])
            warped = warp64(logits[position - 1], fields, ids[:position])
            assert steps.logprob[t] == pytest.approx(raw[token], abs=1e-4)
            assert steps.warped_logprob[t] == pytest.approx(warped[token], abs=1e-4)
            close_ties = int((np.abs(raw - raw[token]) < 1e-5).sum()) - 1
            assert abs(steps.rank[t] - (1 + int((raw > raw[token]).sum()))) <= close_ties
            assert steps.entropy[t] == pytest.approx(-(np.exp(raw) * raw).sum(), abs=1e-4)
            kept = np.isfinite(warped)
            p = np.exp(warped[kept])
            assert steps.warped_entropy[t] == pytest.approx(-(p * warped[kept]).sum(), abs=1e-4)
            assert steps.kept[t] == kept.sum()
            assert steps.kept_mass[t] == pytest.approx(np.exp(raw[kept]).sum(), abs=1e-4)
            top = np.sort(raw)[::-1][:5]
            np.testing.assert_allclose(steps.top_logprobs[t], top, atol=1e-4)
            np.testing.assert_allclose(raw[steps.top_ids[t]], top, atol=1e-4)
            found, expected = steps.top_warped_logprobs[t], warped[steps.top_ids[t]]
            assert np.array_equal(np.isfinite(found), np.isfinite(expected))
            np.testing.assert_allclose(found[np.isfinite(found)], expected[np.isfinite(expected)], atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_prompt_scores(kind: str, loaded_model: Any, prompts_of: Any) -> None:
    loaded = loaded_model(kind)
    model64 = copy.deepcopy(loaded.model).double()
    long_text = " ".join(["the fox and the crow went home through the rain"] * 3)
    for prompt in [*prompts_of(loaded), *prompts_of(loaded, (long_text,))]:
        scores = score_prompt(loaded, prompt.id, prompt.ids)
        with torch.no_grad():
            raw = log_softmax64(model64(input_ids=torch.tensor([prompt.ids])).logits[0].numpy())
        assert np.isnan(scores.logprob[0])
        assert scores.rank[0] == 0
        assert scores.token_id.tolist() == list(prompt.ids)
        for position, token in enumerate(prompt.ids[1:], start=1):
            assert scores.logprob[position] == pytest.approx(raw[position - 1][token], abs=1e-4)
            assert scores.entropy[position] == pytest.approx(
                -(np.exp(raw[position - 1]) * raw[position - 1]).sum(), abs=1e-4
            )
