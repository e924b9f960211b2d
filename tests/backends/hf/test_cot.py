"""Chain-of-thought decoding against brute force: whole forward passes in float64, no cache, no batch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.methods import method_of
from harness.backends.hf.read_again import read_again
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.strategy_error import StrategyError
from harness.config.point import Engine, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.progress import SILENT
from harness.prompts.prompt import Prompt

KINDS = ("llama", "qwen2", "gpt2", "fable_small")
STRATEGIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "penalised": {"repetition_penalty": 1.3, "min_new_tokens": 3},
}
BRANCHES = 5


@torch.inference_mode()
def reference(model: Any, prompt: Prompt, strategy: Strategy, sample: int) -> list[int]:
    tokens: list[int] = []
    for step in range(strategy.max_new_tokens):
        text = [*prompt.ids, *tokens]
        scores = model(torch.tensor([text]), use_cache=False).logits[0, -1].numpy().copy()
        for token in set(text):
            penalty = strategy.effective["repetition_penalty"]
            scores[token] = scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
        if step < (strategy.effective["min_new_tokens"] or 0):
            scores[list(strategy.eos_token_ids)] = -np.inf
        tokens.append(int(np.argsort(-scores, kind="stable")[0 if step else sample]))
        if tokens[-1] in strategy.eos_token_ids:
            break
    return tokens


def requests_of(strategy: Strategy, prompts: list[Prompt], samples: int = BRANCHES) -> list[Request]:
    return [Request(prompt, sample, strategy) for prompt in prompts for sample in range(samples)]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_it_equals_brute_force_in_the_tree_alone_and_in_generate(
    kind: str, name: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    prompts = prompts_of(loaded)
    fields = STRATEGIES[name]
    strategy = strategy_of(loaded, max_new_tokens=10, cot_branches=BRANCHES, **fields)
    greedy = strategy_of(loaded, max_new_tokens=10, **fields)
    sampled = strategy_of(loaded, max_new_tokens=10, do_sample=True, **fields)
    requests = requests_of(strategy, prompts)
    company = [*requests_of(greedy, prompts, 1), *requests_of(sampled, prompts, 2)]
    together = decode_tree(loaded, [*requests, *company], detokenizer)
    double = copy.deepcopy(loaded.model).double()
    for request, sample in zip(requests, together, strict=False):
        assert list(sample.token_ids) == reference(double, request.prompt, strategy, request.sample)
    firsts = [[s.token_ids[0] for s in together[i : i + BRANCHES]] for i in range(0, len(requests), BRANCHES)]
    assert all(len(set(tokens)) == BRANCHES for tokens in firsts)
    of_greedy = together[len(requests) :][: len(prompts)]
    assert [s.token_ids for s in together[: len(requests) : BRANCHES]] == [s.token_ids for s in of_greedy]
    for some in (
        [decode_tree(loaded, [request], detokenizer)[0] for request in requests],
        decode_tree(loaded, requests, detokenizer, share=False),
        stock_generate(loaded, requests, detokenizer),
        decode_tree(loaded, requests[::-1], detokenizer)[::-1],
    ):
        assert [sample.token_ids for sample in some] == [s.token_ids for s in together[: len(requests)]]


def test_prompt_and_beginnings_are_shared(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """One row until the first token, then one a sample."""
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, ends=False, max_new_tokens=2, cot_branches=BRANCHES)
    work: list[Any] = []
    requests = requests_of(strategy, prompts_of(loaded)[:1])
    decode_tree(loaded, requests, Detokenizer(loaded.tokenizer), on_work=work.append)
    assert (work[0].rows, work[0].tokens) == (1 + BRANCHES, 2 * BRANCHES)


def test_what_is_recorded(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """The first token's rank is the sample's, its probability the model's."""
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, ends=False, max_new_tokens=3, cot_branches=BRANCHES)
    requests = requests_of(strategy, prompts_of(loaded))
    for request, sample in zip(
        requests, decode_tree(loaded, requests, Detokenizer(loaded.tokenizer)), strict=True
    ):
        assert sample.steps.rank.tolist() == [request.sample + 1, 1, 1]
        assert sample.steps.logprob == pytest.approx(sample.steps.warped_logprob)
        assert read_again(loaded, request, sample.token_ids).chosen is None


def test_more_samples_than_tokens_fail_alone(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    removed = tuple(token for token in range(loaded.model.config.vocab_size) if token not in (40, 41))
    strategy = strategy_of(loaded, cot_branches=BRANCHES, suppress_tokens=removed)
    requests = requests_of(strategy, prompts_of(loaded)[:1])
    with pytest.raises(StrategyError, match="sample 4 has no first token, the strategy leaves 2"):
        decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    greedy = strategy_of(loaded, max_new_tokens=2)
    backend = HfBackend(loaded)
    backend.configure(Engine(threads=1))
    found = list(backend.generate([*requests, *requests_of(greedy, prompts_of(loaded), 1)], SILENT))
    assert [getattr(one, "error", None) is not None for one in found] == [True] * 5 + [False] * 5


def test_it_is_of_the_tree_and_timed(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, cot_branches=BRANCHES)
    assert method_of(strategy.effective).name == "tree"
    timing = Timing(name="t", prompts=2, repeats=1, warmup=0, batch_size=1, new_tokens=4)
    found = time_strategy(loaded, requests_of(strategy, prompts_of(loaded), 1), timing, context_length=None)
    assert [len(one.itl_ms) for one in found] == [3, 3]
