"""Strategies under a grammar: every output can be parsed, whatever else the strategy does."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import regex
import torch

from harness.analysis.metrics.structure_metrics import is_valid, log_weight
from harness.backends.backend import Request
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.strategy_processors import strategy_processors
from harness.cli.decoding_knobs import choices_of
from harness.config.groups import ConfigGroups
from harness.config.guided_fields import needs_second_prompt
from harness.config.point import Model, Quantization, Timing
from harness.config.structure import STRUCTURES, structure_of
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.texts import Texts
from harness.models.load import load

pytest.importorskip("llguidance")

PATTERN = r" ?[a-z]{2,9}( [a-z]{2,9}){0,2}[.!]"
SCHEMA = (
    '{"type":"object","properties":{"a":{"type":"string","maxLength":9},"b":{"enum":["red","blue"]}},'
    '"required":["a","b"],"additionalProperties":false}'
)
STRATEGIES = {
    name: {key: value for key, value in fields.items() if value is not None}
    for name, fields in choices_of(ConfigGroups()).items()
    if not (fields.get("num_beams") or fields.get("processors"))
    and not any(fields.get(key) for key in STRUCTURES)
}
NAMES = sorted(STRATEGIES)


def plain(value: Any) -> Any:
    return tuple(map(plain, value)) if isinstance(value, list) else value


def decoded(loaded: Any, strategies: Any, prompts: Any, **options: Any) -> list[Any]:
    requests = [
        Request(prompt, sample, s, prompt.ids[:-1] if needs_second_prompt(s.effective) else ())
        for s in strategies
        for prompt in prompts
        for sample in range(2)
    ]
    return decode_tree(loaded, requests, Detokenizer(loaded.tokenizer), **options)


@pytest.fixture(scope="module")
def by_strategy(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> dict[str, list[Any]]:
    """All strategies with one expression, as one tree, ragged prompts, two samples each."""
    loaded = loaded_model("llama")
    strategies = [
        strategy_of(
            loaded, max_new_tokens=40, regex=PATTERN, **{k: plain(v) for k, v in STRATEGIES[name].items()}
        )
        for name in NAMES
    ]
    samples = decoded(loaded, strategies, prompts_of(loaded), amateur=lambda _: loaded_model("llama", seed=1))
    each = len(samples) // len(NAMES)
    return {name: samples[i * each : (i + 1) * each] for i, name in enumerate(NAMES)}


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_gives_what_can_be_parsed(name: str, by_strategy: dict[str, list[Any]]) -> None:
    samples = by_strategy[name]
    assert samples
    for sample in samples:
        assert sample.finish_reason == "eos"
        assert regex.fullmatch(PATTERN, sample.output), sample.output
        steps = sample.steps
        assert (steps.kept_mass <= 1.0).all()
        assert (steps.allowed_logprob <= 0.0).all()
        # a strategy keeps no more than the grammar allows
        assert (np.log(steps.kept_mass) <= steps.allowed_logprob + 1e-5).all()


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "fields",
    [
        {"json_schema": SCHEMA, "do_sample": True},
        {"json_schema": SCHEMA, "do_sample": True, "top_p": 0.9, "dry_multiplier": 0.8},
        {"choices": (" red", " blue", " the color of the house"), "do_sample": True},
        {"grammar": 'start: "(" start ")" | /[a-z]{1,5}/', "do_sample": True, "mirostat_mode": 2},
        {"regex": PATTERN, "repetition_penalty": 1.3},
    ],
    ids=["json", "json top_p dry", "choices", "grammar mirostat", "greedy regex"],
)
def test_alone_and_in_any_batch_it_gives_the_same(
    fields: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    strategy, other = (
        strategy_of(loaded, max_new_tokens=40, **f)
        for f in (fields, {"regex": "[a-z ]{3,20}", "do_sample": True})
    )
    prompts = prompts_of(loaded)
    detokenizer = Detokenizer(loaded.tokenizer)
    expected = decoded(loaded, [strategy], prompts)
    requests = [Request(prompt, sample, strategy) for prompt in prompts for sample in range(2)]
    company = decoded(loaded, [other, strategy], prompts)[len(expected) :]
    apart = decoded(loaded, [strategy], prompts, share=False)
    ones = [decode_tree(loaded, [request], detokenizer)[0] for request in requests]
    threes = [
        sample
        for i in range(0, len(requests), 3)
        for sample in decode_tree(loaded, requests[i : i + 3], detokenizer)
    ]
    for samples in (company, apart, ones, threes):
        assert [s.token_ids for s in samples] == [s.token_ids for s in expected]
    structure = structure_of(strategy.effective)
    assert structure is not None
    ended = [sample for sample in expected if sample.finish_reason == "eos"]
    assert ended
    assert all(is_valid(sample.output, structure) == 1.0 for sample in ended)
    if fields.get("json_schema"):
        assert all(json.loads(sample.output)["b"] in ("red", "blue") for sample in ended)
    stock = stock_generate(loaded, requests, detokenizer)
    assert [s.token_ids for s in stock] == [s.token_ids for s in expected]  # type: ignore[union-attr]


def test_everything_allowed_is_no_grammar(prompts_of: Any, strategy_of: Any, one_thread: None) -> None:
    """A trained model, which writes texts: special tokens and half characters are forbidden all the same."""
    from transformers import GenerationConfig

    model = Model(name="fable_tiny", id="fable_tiny", device="cpu")
    loaded = load(model, Quantization(name="fp32", dtype="float32"), None)
    loaded.model.generation_config = GenerationConfig()
    masked, free = (
        strategy_of(loaded, max_new_tokens=25, do_sample=True, min_p=0.01, **fields)
        for fields in ({"regex": "(?s:.*)"}, {})
    )
    samples = decoded(loaded, [masked, free], prompts_of(loaded))
    half = len(samples) // 2
    for with_mask, without in zip(samples[:half], samples[half:], strict=True):
        assert with_mask.token_ids == without.token_ids
        assert with_mask.steps.warped_logprob == pytest.approx(without.steps.warped_logprob, abs=1e-5)
        assert with_mask.steps.allowed_logprob == pytest.approx(0.0, abs=1e-2)
        assert without.steps.allowed_logprob is None


def test_what_is_recorded_is_the_raw_mass_of_what_is_allowed(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """Against a plain float64 pass over the text, with the tokens that the strategy's mask leaves."""
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, max_new_tokens=15, do_sample=True, top_k=3, temperature=2.0, regex=PATTERN)
    greedy = strategy_of(loaded, max_new_tokens=15, regex=PATTERN)
    prompt = prompts_of(loaded)[1]
    samples = decoded(loaded, [strategy, greedy], [prompt])
    for sample in samples:
        ids = torch.tensor([[*prompt.ids, *sample.token_ids]])
        with torch.inference_mode():
            logits = loaded.model(ids).logits[0, len(prompt.ids) - 1 : -1].double()
        processors = strategy_processors(loaded, greedy)
        total = 0.0
        for step in range(len(sample.token_ids)):
            length = len(prompt.ids)
            allowed = processors.allowed(Texts(ids[:, : length + step], [length], length), logits.shape[1])
            assert allowed is not None
            mass = float(logits[step].softmax(-1)[allowed[0]].sum())
            assert sample.steps.allowed_logprob[step] == pytest.approx(math.log(mass), abs=1e-4)
            total += math.log(mass)
        weight = log_weight({"allowed_logprob": sample.steps.allowed_logprob})
        assert weight == pytest.approx(total, abs=1e-3)
    by_greedy = samples[2].steps  # nothing else cuts: what is kept is what the grammar allows
    assert np.log(by_greedy.kept_mass) == pytest.approx(by_greedy.allowed_logprob, abs=1e-4)


def test_an_end_that_is_forbidden_comes_anyway(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """The text is complete before `min_new_tokens`: nothing but EOS can follow."""
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, choices=(" red",), min_new_tokens=15, max_new_tokens=20)
    for sample in decoded(loaded, [strategy], prompts_of(loaded)):
        assert (sample.output, sample.finish_reason) == (" red", "eos")


@pytest.mark.parametrize("fields", [{"regex": PATTERN, "do_sample": True}, {"choices": (" red", " blue")}])
def test_the_latency_pass_goes_on_after_the_end(
    fields: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    strategy = dataclasses.replace(strategy_of(loaded, **fields))
    timing = Timing(name="t", prompts=2, repeats=1, warmup=0, batch_size=2, new_tokens=30)
    found = time_strategy(
        loaded, [Request(p, 0, strategy) for p in prompts_of(loaded)], timing, context_length=None
    )
    assert [len(one.itl_ms) for one in found] == [29]
