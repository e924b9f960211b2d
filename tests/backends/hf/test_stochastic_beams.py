"""Stochastic beam search against brute force, enumeration, and the law of samples without replacement."""

from __future__ import annotations

import copy
import math
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.search_outputs import Searched, search_outputs
from harness.backends.hf.stochastic_beams import StochasticBeams
from harness.backends.steps.strategy_processors import strategy_processors
from harness.config.point import Engine, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import gumbel
from harness.decoding.perturbed import child_state, root_noise, root_state
from harness.decoding.strategy import Strategy
from harness.decoding.texts import Texts
from harness.decoding.warping import warp, whole
from harness.progress import SILENT
from harness.prompts.prompt import Prompt

stochastic_beams = partial(search_outputs, StochasticBeams)

KINDS = ("llama", "qwen2", "gpt2", "fable_small")
STRATEGIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut": {"temperature": 1.4, "top_p": 0.9, "top_k": 30},
    "processed": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_p": 0.01, "temperature": 0.8},
}
SAMPLES, TOKENS = 5, 8
LEFT = (40, 50, 60)
"""The tokens that are left where texts are enumerated: 9 of two tokens, or fewer where 60 ends them."""


def requests_of(strategy: Strategy, prompts: list[Prompt], samples: int) -> list[Request]:
    return [Request(prompt, sample, strategy) for prompt in prompts for sample in range(samples)]


def drawing(strategy_of: Any, loaded: Any, **fields: Any) -> Strategy:
    found: Strategy = strategy_of(loaded, do_sample=True, stochastic_beams=True, **fields)
    return found


@torch.inference_mode()
def log_probabilities(loaded: Any, model: Any, strategy: Strategy, ids: list[int], prompt: int) -> np.ndarray:
    """What is drawn from after `ids`, from one pass in float64 without a cache."""
    logits = model(torch.tensor([ids]), use_cache=False).logits[:, -1]
    texts = Texts(torch.tensor([ids]), [prompt], prompt)
    warped = whole(warp(strategy_processors(loaded, strategy), texts, logits, [0]), logits)
    found: np.ndarray = warped.log_softmax(-1)[0].numpy()
    return found


def reference(loaded: Any, model: Any, strategy: Strategy, prompt: Prompt, samples: int) -> list[Any]:
    """Texts with their perturbed log-probabilities, by the formulas as Kool et al. print them."""
    state = root_state(strategy.seed, prompt.id)
    nodes: list[tuple[float, float, tuple[int, ...], int]] = [(root_noise(state), 0.0, (), state)]
    for _ in range(strategy.max_new_tokens):
        found = []
        for perturbed, total, tokens, state in nodes:
            if tokens and tokens[-1] in strategy.eos_token_ids:
                found.append((perturbed, total, tokens, state))
                continue
            ids = [*prompt.ids, *tokens]
            log_p = total + log_probabilities(loaded, model, strategy, ids, len(prompt.ids))
            every = np.flatnonzero(log_p > -np.inf)
            noise = gumbel(torch.tensor([state]), torch.tensor(every)).numpy()
            g = log_p[every] + noise
            z = g.max()
            for token, one in zip(every.tolist(), g, strict=True):
                rest = 0.0 if one == z else math.exp(-one) - math.exp(-z)
                value = -math.log(math.exp(-perturbed) + rest)
                found.append((value, log_p[token], (*tokens, token), child_state(state, token)))
        nodes = sorted(found, key=lambda one: -one[0])[:samples]
    return nodes


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_samples_equal_brute_force_however_many_and_in_whatever_batch(
    kind: str, name: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    strategy = drawing(strategy_of, loaded, max_new_tokens=TOKENS, seed=3, **STRATEGIES[name])
    prompts = prompts_of(loaded)[:3]
    double = copy.deepcopy(loaded.model).double()
    requests = requests_of(strategy, prompts, SAMPLES)
    together = stochastic_beams(loaded, requests, detokenizer)
    for number, prompt in enumerate(prompts):
        its = together[number * SAMPLES : (number + 1) * SAMPLES]
        expected = reference(loaded, double, strategy, prompt, SAMPLES)
        assert [sample.token_ids for sample in its] == [tokens for _, _, tokens, _ in expected]
        assert [s.sequence_score for s in its] == pytest.approx([one[0] for one in expected], abs=1e-3)
        assert [s.sequence_logprob for s in its] == pytest.approx([one[1] for one in expected], abs=1e-3)
        for sample in its:
            total = float(sample.steps.warped_logprob.astype(np.float64).sum())
            assert sample.sequence_logprob == pytest.approx(total, abs=1e-4)
    expected_ids = [sample.token_ids for sample in together]
    few = stochastic_beams(loaded, requests_of(strategy, prompts, 2), detokenizer)
    assert [s.token_ids for s in few] == [ids for at, ids in enumerate(expected_ids) if at % SAMPLES < 2]
    for index in (1, SAMPLES + 3):
        (alone,) = stochastic_beams(loaded, [requests[index]], detokenizer)
        assert alone.token_ids == expected_ids[index]
    whole_texts = stochastic_beams(loaded, requests[:SAMPLES], detokenizer, use_cache=False)
    assert [sample.token_ids for sample in whole_texts] == expected_ids[:SAMPLES]


def enumerated(loaded: Any, strategy: Strategy, prompt: Prompt) -> dict[tuple[int, ...], float]:
    """The probability of every text of two tokens, one where the first is EOS."""
    double = copy.deepcopy(loaded.model).double()
    prompt_tokens = len(prompt.ids)
    first = np.exp(log_probabilities(loaded, double, strategy, list(prompt.ids), prompt_tokens))
    found = {}
    for token in LEFT:
        if token in strategy.eos_token_ids:
            found[(token,)] = float(first[token])
            continue
        ids = [*prompt.ids, token]
        second = np.exp(log_probabilities(loaded, double, strategy, ids, prompt_tokens))
        found |= {(token, other): float(first[token] * second[other]) for other in LEFT}
    assert sum(found.values()) == pytest.approx(1.0)
    return found


def test_samples_follow_the_law_without_replacement(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """The first two of 2500 sets of three: as one draw, then one of what it left; weights are unbiased."""
    loaded = loaded_model("llama")
    removed = tuple(token for token in range(loaded.model.config.vocab_size) if token not in LEFT)
    strategy = drawing(
        strategy_of, loaded, max_new_tokens=2, ends=False, suppress_tokens=removed, temperature=10.0
    )
    (prompt,) = prompts_of(loaded)[:1]
    p = enumerated(loaded, strategy, prompt)
    sets, count = 2500, 3
    prompts = [Prompt(id=f"{prompt.id}-{n}", text=prompt.text, ids=prompt.ids) for n in range(sets)]
    search = StochasticBeams(
        loaded, strategy, [searched(prompt, count, strategy) for prompt in prompts], use_cache=True
    )
    with torch.inference_mode():
        assert len(list(search.run(2))) == 2
    found = search.outputs()
    pairs = Counter((first.tokens, second.tokens) for first, second, _ in found)
    expected = {
        (one, other): p[one] * p[other] / (1 - p[one]) * sets for one, other in product(p, p) if one != other
    }
    assert not pairs.keys() - expected.keys()
    assert min(expected.values()) > 5
    assert chisquare([pairs[key] for key in expected], list(expected.values())).pvalue > 1e-3
    estimates = np.zeros((sets, len(p)))
    texts = {text: column for column, text in enumerate(p)}
    for row, outputs in enumerate(found):
        threshold = outputs[-1].score
        for output in outputs[:-1]:
            weight = p[output.tokens] / -math.expm1(-math.exp(math.log(p[output.tokens]) - threshold))
            estimates[row, texts[output.tokens]] = weight
    for text, column in texts.items():
        error = estimates[:, column].std() / math.sqrt(sets)
        assert abs(estimates[:, column].mean() - p[text]) < 4 * error, text


def searched(prompt: Prompt, count: int, strategy: Strategy) -> Any:
    ends = strategy.eos_token_ids
    return Searched(prompt.id, prompt.ids, count, lambda tokens: "eos" if tokens[-1] in ends else None)


def test_as_many_samples_as_texts_are_all_of_them_and_no_more(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """60 ends a text: of three tokens 7 texts are left, of one, and of two."""
    for kind in KINDS:
        loaded = loaded_model(kind)
        removed = tuple(token for token in range(loaded.model.config.vocab_size) if token not in LEFT)
        strategy = replace(
            drawing(strategy_of, loaded, max_new_tokens=2, suppress_tokens=removed), eos_token_ids=(60,)
        )
        (prompt,) = prompts_of(loaded)[:1]
        found = stochastic_beams(loaded, requests_of(strategy, [prompt], 8), Detokenizer(loaded.tokenizer))
        p = enumerated(loaded, strategy, prompt)
        assert {sample.token_ids for sample in found[:7]} == set(p)
        assert len(p) == 7
        assert [s.sequence_logprob for s in found[:7]] == pytest.approx(
            [math.log(p[s.token_ids]) for s in found[:7]], abs=1e-3
        )
        assert [s.finish_reason for s in found[:7]] == [
            "eos" if s.token_ids[-1] == 60 else "length" for s in found[:7]
        ]
        assert isinstance(found[7], Failure)
        assert "the search has 7 outputs only; set generation.samples=7" in str(found[7].error)


def test_structures_hold_for_every_sample(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    pytest.importorskip("llguidance")
    loaded = loaded_model("fable_small")
    choices = (" the fox", " the old king", " a river", " a dog")
    strategy = drawing(strategy_of, loaded, max_new_tokens=12, choices=choices)
    (prompt,) = prompts_of(loaded)[:1]
    detokenizer = Detokenizer(loaded.tokenizer)
    found = stochastic_beams(loaded, requests_of(strategy, [prompt], 4), detokenizer)
    assert {sample.output for sample in found} == set(choices)
    for sample in found:
        assert (sample.steps.allowed_logprob <= 0).all()
        assert sample.steps.allowed_logprob.min() < 0


def test_stop_strings_end_samples(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("fable_small")
    strategy = drawing(strategy_of, loaded, max_new_tokens=24, stop_strings=("e",))
    detokenizer = Detokenizer(loaded.tokenizer)
    samples = stochastic_beams(loaded, requests_of(strategy, prompts_of(loaded), 4), detokenizer)
    assert any(sample.finish_reason == "stop_string" for sample in samples)
    for sample in samples:
        assert ("e" in sample.output) == (sample.finish_reason == "stop_string")
        assert "e" not in "".join(sample.steps.token[:-1])


def test_through_the_backend_and_timed(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("fable_small")
    strategy = replace(drawing(strategy_of, loaded, top_p=0.9), samples=3)
    backend = HfBackend(loaded)
    backend.configure(Engine(threads=1, batch_rows=2))
    requests = requests_of(strategy, prompts_of(loaded), 3)
    found = list(backend.generate(requests, SILENT))
    expected = stochastic_beams(loaded, requests, Detokenizer(loaded.tokenizer))
    assert [sample.token_ids for sample in found] == [sample.token_ids for sample in expected]
    timing = Timing(name="t", prompts=4, repeats=2, warmup=1, batch_size=2, new_tokens=5)
    times = time_strategy(loaded, requests[::3], timing, context_length=None)
    assert [(one.ttft_ms, one.itl_ms, one.output_tokens) for one in times] == [(None, (), 5)] * 4
