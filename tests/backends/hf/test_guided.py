"""Guided strategies against brute force: every step a whole forward pass in float64, no cache, no batch."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from scipy.stats import chisquare
from transformers import GenerationConfig

from harness.backends.backend import Request
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.cli.token_walk import TokenWalk
from harness.config.decoding import Decoding
from harness.config.point import Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel_numpy import gumbel, noise_key, step_states
from harness.decoding.strategy import Strategy
from harness.prompts.prompt import Prompt

KINDS = ("llama", "qwen2", "gpt2", "fable_small")
STRATEGIES: dict[str, dict[str, Any]] = {
    "cfg": {"guidance_scale": 1.5},
    "cfg sampled": {"guidance_scale": 2.0, "do_sample": True, "temperature": 0.8, "min_p": 0.02},
    "context aware": {"context_alpha": 0.5},
    "context aware, penalised": {"context_alpha": 1.0, "repetition_penalty": 1.3},
    "contrastive": {"amateur": "small"},
    "contrastive beta": {
        "amateur": "small", "contrastive_beta": 0.5, "amateur_temperature": 0.5, "contrastive_alpha": 0.05,
    },
    "contrastive sampled": {"amateur": "small", "contrastive_beta": 0.5, "do_sample": True, "top_k": 20},
    "dola low": {"dola_layers": "low"},
    "dola list": {"dola_layers": (0, 1), "do_sample": True, "temperature": 0.7},
    "dola high": {"dola_layers": "high", "repetition_penalty": 1.2},
}  # fmt: skip
NAMES = list(STRATEGIES)
TOKENS = 10


@pytest.fixture(scope="module")
def model(loaded_model: Any) -> Callable[[str], Any]:
    """`model("llama")`, and `model("small llama")`, its amateur: another model with the same tokenizer."""

    def found(name: str) -> Any:
        kind = name.removeprefix("small ")
        if kind == name:
            return loaded_model(kind)
        return loaded_model("fable_tiny") if kind == "fable_small" else loaded_model(kind, seed=1)

    return found


@pytest.fixture(scope="module")
def in_double(model: Any) -> Callable[[str], Any]:
    """The model in float64."""
    return cache(lambda name: copy.deepcopy(model(name).model).double())


def second_of(strategy: Strategy, prompts: list[Prompt], number: int) -> tuple[int, ...]:
    """A second prompt of another length: a neighbour's, without its beginning."""
    if strategy.effective["guidance_scale"] is None and "context_alpha" not in strategy.effective:
        return ()
    return prompts[(number + 1) % len(prompts)].ids[1:] or prompts[number].ids[-1:]


def requests_of(strategy: Strategy, prompts: list[Prompt], samples: int | None = None) -> list[Request]:
    samples = samples or (2 if strategy.do_sample else 1)
    return [
        Request(prompt, sample, strategy, second_of(strategy, prompts, number))
        for number, prompt in enumerate(prompts)
        for sample in range(samples)
    ]


class Reference:
    """The distribution of each step, as the papers define it, from whole forward passes."""

    def __init__(self, main: Any, amateur: Any, request: Request) -> None:
        self.main, self.amateur, self.request = main, amateur, request
        self.fields = request.strategy.effective

    def scores(self, generated: list[int]) -> torch.Tensor:
        fields = self.fields
        output = read(self.main, (*self.request.prompt.ids, *generated))
        log_p = output.logits[0, -1].log_softmax(-1)
        if fields["guidance_scale"] is not None or "context_alpha" in fields:
            scale = fields["guidance_scale"] or 1 + fields["context_alpha"]
            second = read(self.main, (*self.request.second_prompt, *generated)).logits[0, -1].log_softmax(-1)
            scores = second + scale * (log_p - second)
        elif "amateur" in fields:
            logits = read(self.amateur, (*self.request.prompt.ids, *generated)).logits[0, -1]
            log_a = (logits / fields.get("amateur_temperature", 1.0)).log_softmax(-1)
            beta = fields.get("contrastive_beta")
            scores = log_p - log_a if beta is None else (1 + beta) * log_p - beta * log_a
            plausible = log_p.exp() >= fields.get("contrastive_alpha", 0.1) * log_p.exp().max()
            scores = scores.masked_fill(~plausible, -math.inf)
        else:
            scores = self.dola(log_p, output.hidden_states)
        for token in {*self.request.prompt.ids, *generated}:
            penalty = fields["repetition_penalty"]
            scores[token] = scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
        return self.warped(scores)

    def dola(self, log_p: torch.Tensor, hidden: Any) -> torch.Tensor:
        count = self.main.config.num_hidden_layers
        layers = self.fields["dola_layers"]
        if isinstance(layers, str):
            start = 0 if not self.main.config.tie_word_embeddings else min(2, count // 2)
            low = list(range(start, count // 2, 2)) or [start]
            layers = low if layers == "low" else list(range(count // 2, count, 2))
        head, p = self.main.get_output_embeddings(), log_p.exp().numpy()
        best, most = None, -1.0
        for layer in layers:
            log_q = head(hidden[layer][0, -1]).log_softmax(-1)
            q = log_q.exp().numpy()
            distance = (rel_entr(p, (p + q) / 2).sum() + rel_entr(q, (p + q) / 2).sum()) / 2
            if distance > most:
                best, most = log_q, distance
        return (log_p - best).masked_fill(log_p.exp() < 0.1 * log_p.exp().max(), -math.inf)

    def warped(self, scores: torch.Tensor) -> torch.Tensor:
        fields = self.fields
        if not fields["do_sample"]:
            return scores.log_softmax(-1)
        scores = scores / fields["temperature"]
        if fields["top_k"]:
            scores = scores.masked_fill(scores < scores.topk(fields["top_k"]).values[-1], -math.inf)
        if fields["min_p"]:
            p = scores.softmax(-1)
            scores = scores.masked_fill(p < fields["min_p"] * p.max(), -math.inf)
        return scores.log_softmax(-1)

    def text(self) -> tuple[list[int], list[float]]:
        """The tokens and their log-probabilities."""
        request, tokens, logprobs = self.request, [], []
        key = noise_key(request.strategy.seed, request.prompt.id, request.sample)
        for step in range(request.strategy.max_new_tokens):
            log_q = self.scores(tokens)
            noisy = log_q.numpy()
            if self.fields["do_sample"]:
                noisy = noisy + gumbel(step_states(np.array([key]), np.array([step])), np.arange(len(log_q)))
            token = int(np.argmax(noisy))
            tokens.append(token)
            logprobs.append(float(log_q[token]))
            if token in request.strategy.eos_token_ids:
                break
        return tokens, logprobs


@torch.inference_mode()
def read(model: Any, ids: Any) -> Any:
    return model(torch.tensor([list(ids)]), use_cache=False, output_hidden_states=True)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("kind", KINDS)
def test_they_equal_brute_force_together_alone_and_in_any_batch(
    kind: str, model: Any, in_double: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = model(kind)
    prompts = prompts_of(loaded)[:3]
    detokenizer = Detokenizer(loaded.tokenizer)

    def amateur(name: str) -> Any:
        return model(f"{name} {kind}")

    def decoded(requests: list[Request], **more: Any) -> list[Any]:
        return decode_tree(loaded, requests, detokenizer, amateur=amateur, **more)

    strategies = {
        name: strategy_of(loaded, max_new_tokens=TOKENS, **fields) for name, fields in STRATEGIES.items()
    }
    plain = strategy_of(loaded, max_new_tokens=TOKENS)
    wanted = {name: requests_of(strategy, prompts) for name, strategy in strategies.items()}
    company = [*requests_of(plain, prompts, 1), *(one for some in wanted.values() for one in some)]
    together = iter(decoded(company))
    for request in requests_of(plain, prompts, 1):
        (alone,) = decoded([request])
        assert next(together).token_ids == alone.token_ids
    for name, requests in wanted.items():
        found = [next(together) for _ in requests]
        for request, sample in zip(requests, found, strict=True):
            tokens, logprobs = Reference(in_double(kind), in_double(f"small {kind}"), request).text()
            assert list(sample.token_ids) == tokens, f"{name}, {request.prompt.id}"
            assert sample.steps.warped_logprob == pytest.approx(logprobs, abs=1e-4)
        threes = [requests[start : start + 3] for start in range(0, len(requests), 3)]
        for others in (
            decoded(requests),
            decoded(requests, share=False),
            [decoded([request])[0] for request in requests],
            [sample for some in threes for sample in decoded(some)],
            stock_generate(loaded, requests, detokenizer, amateur=amateur),
        ):
            assert [s.token_ids for s in others] == [s.token_ids for s in found], name


def test_without_a_cache(model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = model("llama")
    more: dict[str, Any] = {"amateur": lambda _: model("small llama")}
    for fields in STRATEGIES.values():
        requests = requests_of(strategy_of(loaded, max_new_tokens=4, **fields), prompts_of(loaded)[:2])
        detokenizer = Detokenizer(loaded.tokenizer)
        expected = decode_tree(loaded, requests, detokenizer, **more)
        found = stock_generate(loaded, requests, detokenizer, use_cache=False, **more)
        assert [sample.token_ids for sample in found] == [sample.token_ids for sample in expected]


@pytest.mark.parametrize("kind", ["llama", "fable_small"])
@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_classifier_free_guidance_equals_stock_generate(
    kind: str, scale: float, model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """One prompt at a time, as stock guidance reads them; without a negative prompt its last token alone."""
    loaded = model(kind)
    prompts = prompts_of(loaded)
    strategy = strategy_of(loaded, max_new_tokens=TOKENS, guidance_scale=scale)
    for second in (prompts[1].ids, None):
        requests = [Request(one, 0, strategy, second or one.ids[-1:]) for one in prompts]
        samples = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
        for prompt, sample in zip(prompts, samples, strict=True):
            ids = torch.tensor([prompt.ids])
            expected = loaded.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                negative_prompt_ids=None if second is None else torch.tensor([second]),
                generation_config=GenerationConfig(
                    guidance_scale=scale, max_new_tokens=TOKENS, pad_token_id=strategy.pad_token_id,
                    eos_token_id=list(strategy.eos_token_ids), do_sample=False,
                ),
            )  # fmt: skip
            assert list(sample.token_ids) == expected[0, len(prompt.ids) :].tolist()


def test_second_rows_are_shared(model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """Strategies share the rows of one second prompt, also with the strategies whose own prompt it is."""
    loaded = model("llama")
    prompts = prompts_of(loaded)[:2]
    work: list[Any] = []
    strategies = [strategy_of(loaded, max_new_tokens=1, guidance_scale=scale) for scale in (1.5, 2.0, 3.0)]
    plain = strategy_of(loaded, max_new_tokens=1)
    requests = [Request(prompts[0], 0, one, prompts[1].ids) for one in strategies]
    requests += [Request(one, 0, plain) for one in prompts]
    decode_tree(loaded, requests, Detokenizer(loaded.tokenizer), on_work=work.append)
    assert (work[0].rows, work[0].tokens) == (2, 5)


@pytest.mark.parametrize("name", ["cfg sampled", "contrastive sampled", "dola list"])
def test_draws_follow_the_guided_distribution(
    name: str, model: Any, in_double: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """Chi-square of the first token over 2,000 samples; a chance of 1 in 10,000 to fail, each."""
    loaded = model("llama")
    strategy = strategy_of(loaded, max_new_tokens=1, **STRATEGIES[name])
    prompts = prompts_of(loaded)[:1]
    requests = requests_of(strategy, prompts, 2000)
    samples = decode_tree(
        loaded, requests, Detokenizer(loaded.tokenizer), amateur=lambda _: model("small llama")
    )
    log_q = Reference(in_double("llama"), in_double("small llama"), requests[0]).scores([])
    expected = 2000 * log_q.exp().numpy()
    chosen = Counter(sample.token_ids[0] for sample in samples)
    assert all(expected[token] > 0 for token in chosen)
    likely = expected >= 10
    observed = np.array([chosen[token] for token in likely.nonzero()[0]])
    counts, wanted = [*observed, 2000 - observed.sum()], [*expected[likely], expected[~likely].sum()]
    if wanted[-1] < 1:
        counts, wanted = counts[:-1], wanted[:-1]
    assert chisquare(counts, np.array(wanted) * sum(counts) / sum(wanted)).pvalue > 1e-4


@pytest.mark.parametrize("name", [name for name in NAMES if "context" not in name])
def test_a_walk_shows_what_is_drawn_from(
    name: str, model: Any, in_double: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded, fields = model("llama"), STRATEGIES[name]
    prompt = prompts_of(loaded)[0]
    strategy = strategy_of(loaded, **fields)
    second = prompt.ids[-1:] if "guidance_scale" in fields else ()
    reference = Reference(in_double("llama"), in_double("small llama"), Request(prompt, 0, strategy, second))
    walk = TokenWalk(loaded, prompt, lambda _: model("small llama"))
    for tokens in ([], [5], [5, 9]):
        log_q = walk.warped(tokens, Decoding(name="x", **fields))[0].double()
        expected = reference.scores(tokens)
        kept = expected > -math.inf
        assert torch.equal(log_q > -math.inf, kept)
        torch.testing.assert_close(log_q[kept], expected[kept], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_latency_pass_runs_them(name: str, model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = model("llama")
    strategy = strategy_of(loaded, **STRATEGIES[name])
    requests = requests_of(strategy, prompts_of(loaded), 1)
    timing = Timing(name="t", prompts=2, repeats=1, warmup=0, batch_size=2, new_tokens=5)
    found = time_strategy(
        loaded, requests, timing, context_length=None, amateur=lambda _: model("small llama")
    )
    assert [len(one.itl_ms) for one in found] == [4]
