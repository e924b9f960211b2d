"""Every choice of `decoding` that the tree decodes: alone as in company, in any batch, right by float64."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from every_strategy import choices, plain
from scipy.stats import chisquare

from harness.backends.backend import Request
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.strategy_processors import strategy_processors
from harness.config.decoding import Decoding
from harness.config.point import Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.sampler_state import SamplerState
from harness.decoding.strategy import Strategy
from harness.decoding.texts import Texts
from harness.decoding.warping import note_chosen, warp, whole

AT_THRESHOLD = {"mirostat_1": 20}
"""Tokens that rounding may keep or not: of a flat distribution mirostat 1 raises its estimate to a power."""

NAMES = sorted(choices())


def test_there_are_enough_of_them() -> None:
    assert len(NAMES) >= 38


@pytest.fixture(scope="module")
def strategies(loaded_model: Any, strategy_of: Any) -> dict[str, Strategy]:
    loaded = loaded_model("llama")
    return {
        name: strategy_of(loaded, max_new_tokens=12, **{k: plain(v) for k, v in fields.items()})
        for name, fields in choices().items()
    }


@pytest.fixture(scope="module")
def together(loaded_model: Any, prompts_of: Any, strategies: dict[str, Strategy]) -> dict[str, list[Any]]:
    """The samples of all strategies decoded as one tree, ragged prompts, two samples each."""
    loaded = loaded_model("llama")
    requests = [r for name in NAMES for r in requests_of(strategies[name], prompts_of(loaded))]
    samples = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    each = len(samples) // len(NAMES)
    return {name: samples[i * each : (i + 1) * each] for i, name in enumerate(NAMES)}


def requests_of(strategy: Strategy, prompts: Any) -> list[Request]:
    return [Request(prompt, sample, strategy) for prompt in prompts for sample in range(2)]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", NAMES)
def test_alone_and_in_any_batch_it_gives_the_same(
    name: str, loaded_model: Any, prompts_of: Any, strategies: Any, together: Any
) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    requests = requests_of(strategies[name], prompts_of(loaded))
    expected = together[name]
    alone = decode_tree(loaded, requests, detokenizer)
    apart = decode_tree(loaded, requests, detokenizer, share=False)
    ones = [decode_tree(loaded, [request], detokenizer)[0] for request in requests]
    by_three = [requests[i : i + 3] for i in range(0, len(requests), 3)]
    threes = [sample for some in by_three for sample in decode_tree(loaded, some, detokenizer)]
    for samples in (alone, apart, ones, threes):
        assert [s.token_ids for s in samples] == [s.token_ids for s in expected]
    for sample, other in zip(expected, ones, strict=True):
        # A token at the very threshold may be kept or not: it has next to no probability.
        kept = sample.steps.kept.astype(int) - other.steps.kept
        assert (np.abs(kept) <= AT_THRESHOLD.get(name, 1)).all()
        tolerance = np.where(kept == 0, 1e-4, 2e-3)
        assert (np.abs(sample.steps.warped_logprob - other.steps.warped_logprob) <= tolerance).all()


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", NAMES)
def test_recorded_probabilities_are_those_of_a_float64_pass(
    name: str, loaded_model: Any, prompts_of: Any, strategies: Any, together: Any
) -> None:
    """The whole text in one forward pass of the float64 model, warped step by step in float64."""
    loaded = loaded_model("llama")
    model = copy.deepcopy(loaded.model).double()
    prompts = prompts_of(loaded)
    processors = strategy_processors(loaded, strategies[name])
    for number, sample in enumerate(together[name][:4]):
        prompt = prompts[number // 2]
        ids = torch.tensor([[*prompt.ids, *sample.token_ids]])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(prompt.ids) - 1 : -1]
        processors.state.forget()
        for step, token in enumerate(sample.token_ids):
            length = len(prompt.ids)
            texts = Texts(ids[:, : length + step], [length], length)
            found = warp(processors, texts, logits[step : step + 1], [0])
            log_q = whole(found, logits[:1]).log_softmax(-1)
            kept = int((log_q > -math.inf).sum()) - int(sample.steps.kept[step])
            assert abs(kept) <= AT_THRESHOLD.get(name, 1)
            tolerance = 1e-4 if kept == 0 else 2e-3
            assert sample.steps.warped_logprob[step] == pytest.approx(float(log_q[0, token]), abs=tolerance)
            note_chosen(processors, found, [0], torch.tensor([token]))


COUNT = 1200

SAMPLED = sorted(
    name
    for name, fields in choices().items()
    if fields.get("do_sample") and "gumbel_key" not in fields  # its samples are equal
)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", SAMPLED)
def test_draws_follow_the_warped_distribution(
    name: str, loaded_model: Any, prompts_of: Any, strategies: Any
) -> None:
    """Chi-square over the first two tokens of 1,200 samples; a chance of 1 in 10,000 to fail, each."""
    loaded = loaded_model("llama")
    prompt = prompts_of(loaded)[0]
    strategy = dataclasses.replace(strategies[name], max_new_tokens=2, eos_token_ids=())
    requests = [Request(prompt, sample, strategy) for sample in range(COUNT)]
    samples = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    chosen = Counter(sample.token_ids for sample in samples)
    expected: dict[tuple[int, ...], float] = {}
    for first in {tokens[0] for tokens in chosen}:
        p_first = exact(loaded, strategy, prompt, ())
        p_second = exact(loaded, strategy, prompt, (first,))
        for second in p_second.nonzero()[:, 0].tolist():
            expected[first, second] = float(p_first[first] * p_second[second])
    assert set(chosen) <= set(expected)
    likely = [tokens for tokens, p in expected.items() if COUNT * p >= 10]
    observed = [chosen[tokens] for tokens in likely]
    wanted = [COUNT * expected[tokens] for tokens in likely]
    rest = COUNT - sum(wanted)
    if rest > 1:
        observed.append(COUNT - sum(observed))
        wanted.append(rest)
    if len(wanted) > 1:
        assert chisquare(observed, np.array(wanted) * sum(observed) / sum(wanted)).pvalue > 1e-4


def exact(loaded: Any, strategy: Strategy, prompt: Any, tokens: tuple[int, ...]) -> torch.Tensor:
    """Return the distribution after some tokens, from a plain forward pass."""
    processors = strategy_processors(loaded, strategy)
    length = len(prompt.ids)
    for step in range(len(tokens) + 1):
        ids = torch.tensor([[*prompt.ids, *tokens[:step]]])
        with torch.inference_mode():
            logits = loaded.model(ids).logits[:, -1].float()
        found = warp(processors, Texts(ids, [length], length), logits, [0])
        if step < len(tokens):
            note_chosen(processors, found, [0], torch.tensor([tokens[step]]))
    return whole(found, logits)[0].double().softmax(-1)


@pytest.mark.parametrize("name", ["mirostat", "adaptive_p", "dry", "xtc", "llama_cpp_default", "slope"])
def test_the_latency_pass_runs_the_strategy(
    name: str, loaded_model: Any, prompts_of: Any, strategies: Any
) -> None:
    loaded = loaded_model("llama")
    timing = Timing(name="t", prompts=2, repeats=2, warmup=0, batch_size=2, new_tokens=5)
    found = time_strategy(
        loaded, requests_of(strategies[name], prompts_of(loaded))[::2], timing, context_length=None
    )
    assert [len(one.itl_ms) for one in found] == [4, 4]


def test_a_state_is_a_function_of_the_text(strategies: dict[str, Strategy]) -> None:
    """mu after three tokens, by hand: 2 tau - eta * sum(bits - tau)."""
    state = SamplerState(strategies["mirostat"].effective)
    for bits in (3.0, 6.5, 1.25):
        state.update([4], [-bits * math.log(2)])
    texts = Texts(torch.zeros((1, 1), dtype=torch.long), [1], 1)
    tau, eta = 4.0, 0.1
    expected = 2 * tau - eta * (3.0 + 6.5 + 1.25 - 3 * tau)
    assert float(state.parameters([4], texts)["mirostat_mu"]) == pytest.approx(expected)
    assert float(state.parameters([5], texts)["mirostat_mu"]) == pytest.approx(2 * tau), "another text's own"


def test_a_field_of_other_strategies_leaves_an_address_as_it_is() -> None:
    from harness.config.effective import effective_decoding

    plain_top_p = effective_decoding(Decoding(name="x", do_sample=True, top_p=0.9))
    neutral = effective_decoding(Decoding(name="x", do_sample=True, top_p=0.9, dry_multiplier=0.0, tfs=1.0))
    assert plain_top_p == neutral
    assert "dry_base" not in neutral
