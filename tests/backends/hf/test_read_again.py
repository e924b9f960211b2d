"""Outputs read again: compared with a float64 forward pass, and with what the tree chose."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from harness.analysis.noise_floor import rounding
from harness.backends.backend import Request
from harness.backends.hf.read_again import read_again
from harness.backends.hf.tree import decode_tree
from harness.decoding.detokenizer import Detokenizer

STRATEGIES: list[dict[str, Any]] = [
    {},
    {"do_sample": True},
    {"do_sample": True, "temperature": 0.7},
    {"do_sample": True, "top_p": 0.8, "temperature": 1.2},
    {"do_sample": True, "typical_p": 0.9},
    {"do_sample": True, "top_k": 4, "min_p": 0.1},
]


def decoded(loaded: Any, prompts: Any, strategy: Any) -> list[tuple[Request, Any]]:
    """Requests and their samples, all decoded in one batch."""
    requests = [Request(prompt, sample, strategy) for prompt in prompts for sample in range(2)]
    return list(zip(requests, decode_tree(loaded, requests, Detokenizer(loaded.tokenizer)), strict=True))


@torch.inference_mode()
def log_p64(model64: Any, request: Request, tokens: tuple[int, ...]) -> np.ndarray:
    """(T, V) log-probabilities of a float64 model along an output, by itself."""
    ids = torch.tensor([[*request.prompt.ids, *tokens]])
    logits = model64(input_ids=ids).logits[0, len(request.prompt.ids) - 1 : -1]
    return logits.log_softmax(-1).numpy()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("fields", STRATEGIES, ids=str)
def test_in_float32_it_is_the_recorded_output_again(
    kind: str, fields: dict[str, Any], loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    model64 = copy.deepcopy(loaded.model).double()
    strategy = strategy_of(loaded, max_new_tokens=12, **fields)
    for request, sample in decoded(loaded, prompts_of(loaded), strategy):
        read = read_again(loaded, request, sample.token_ids)
        assert read.chosen is not None
        np.testing.assert_array_equal(read.chosen, sample.token_ids)
        exact = log_p64(model64, request, sample.token_ids)
        logprob = exact[np.arange(len(exact)), list(sample.token_ids)]
        np.testing.assert_allclose(read.columns["logprob"], logprob, atol=2e-5)
        np.testing.assert_allclose(read.columns["entropy"], -(np.exp(exact) * exact).sum(1), atol=1e-4)
        np.testing.assert_array_equal(read.columns["rank"], (exact > logprob[:, None]).sum(1) + 1)
        for name in ("warped_logprob", "warped_entropy", "kept_mass"):
            np.testing.assert_allclose(
                read.columns[name], getattr(sample.steps, name), atol=1e-4, err_msg=name
            )


def test_a_change_of_16_bits_is_between_the_errors_of_both_passes(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """Both passes round: they are no further from each other than both errors together, nor nearer."""
    loaded = loaded_model("llama", dtype="bfloat16")
    model64 = copy.deepcopy(loaded.model).double()
    recorded, again, chosen, errors = [], [], [], []
    for request, sample in decoded(loaded, prompts_of(loaded), strategy_of(loaded, max_new_tokens=16)):
        read = read_again(loaded, request, sample.token_ids)
        exact = log_p64(model64, request, sample.token_ids)
        logprob = exact[np.arange(len(exact)), list(sample.token_ids)]
        steps = vars(sample.steps)
        recorded.append({name: steps[name] for name in ("token_id", *read.columns)})
        again.append(read.columns)
        chosen.append(read.chosen)
        errors.append((steps["logprob"] - logprob, read.columns["logprob"] - logprob))
        # What is greedily chosen again is the likeliest token of the pass that read it.
        np.testing.assert_array_equal(read.chosen == sample.token_ids, read.columns["rank"] == 1)
    found, metrics = rounding(recorded, again, chosen)
    before, after = (np.concatenate(some) for some in zip(*errors, strict=True))
    assert found.tokens == len(before)
    assert found.largest == pytest.approx(np.abs(after - before).max(), abs=1e-6)
    assert found.mean == pytest.approx(np.abs(after - before).mean(), abs=1e-6)
    assert 1e-4 < found.largest <= np.abs(before).max() + np.abs(after).max()
    assert metrics["probability/mean_logprob"] == pytest.approx(abs(after.mean() - before.mean()), abs=1e-6)


@pytest.mark.parametrize("fields", [{}, {"do_sample": True, "top_p": 0.9}], ids=str)
def test_a_token_that_would_not_be_chosen_is_found(
    fields: dict[str, Any], loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, max_new_tokens=12, ends=False, **fields)
    (request, sample), *_ = decoded(loaded, prompts_of(loaded)[:1], strategy)
    # As if rounding had decided the last choice: another token was recorded than is chosen.
    tokens = (*sample.token_ids[:-1], sample.token_ids[-1] + 1)
    read = read_again(loaded, request, tokens)
    assert read.chosen is not None
    np.testing.assert_array_equal(np.flatnonzero(read.chosen != tokens), [11])
    assert np.isnan(read.columns["warped_logprob"][11])
    assert not np.isnan(read.columns["warped_logprob"][:11]).any()
    # The same noise belongs to this sample and seed only.
    other = read_again(loaded, replace(request, sample=1), sample.token_ids)
    assert other.chosen is not None
    assert bool((other.chosen == sample.token_ids).all()) is not bool(fields)


@pytest.mark.parametrize(
    "fields", [{"repetition_penalty": 1.4}, {"num_beams": 3}, {"min_new_tokens": 6}], ids=str
)
def test_strategies_that_look_at_the_tokens_so_far_are_read_without_choosing(
    fields: dict[str, Any], loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, max_new_tokens=8, **fields)
    request = Request(prompts_of(loaded)[0], 0, strategy)
    read = read_again(loaded, request, (5, 6, 7))
    assert read.chosen is None
    assert set(read.columns) == {"logprob", "entropy", "rank"}
    exact = log_p64(copy.deepcopy(loaded.model).double(), request, (5, 6, 7))
    np.testing.assert_allclose(read.columns["logprob"], exact[[0, 1, 2], [5, 6, 7]], atol=2e-5)
