"""Contrastive search against brute force: a whole forward pass in float64 for every candidate, no cache."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.contrastive_search import contrastive_search
from harness.backends.hf.decoding_method import GENERATE_MODES
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.methods import method_of
from harness.backends.hf.read_again import read_again
from harness.backends.hf.tree import decode_tree
from harness.backends.hf.verified_modes import VerifiedModes
from harness.config.point import Engine, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.progress import SILENT
from harness.prompts.prompt import Prompt

KINDS = ("llama", "qwen2", "gpt2", "fable_small")
STRATEGIES: dict[str, dict[str, Any]] = {
    "usual": {"penalty_alpha": 0.6, "top_k": 4},
    "mild": {"penalty_alpha": 0.2, "top_k": 8},
    "penalised": {"penalty_alpha": 0.5, "top_k": 5, "repetition_penalty": 1.3, "min_new_tokens": 4},
    "no repeats": {"penalty_alpha": 0.4, "top_k": 3, "no_repeat_ngram_size": 2},
}
TOKENS = 16


@torch.inference_mode()
def read(model: Any, ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """The last logits, and the last hidden states of all tokens."""
    output = model(torch.tensor([list(ids)]), use_cache=False, output_hidden_states=True)
    return output.logits[0, -1].numpy(), output.hidden_states[-1][0].numpy()


def reference(model: Any, prompt: Prompt, strategy: Strategy) -> list[int]:
    """The definition: each of the k likeliest tokens appended and read, its last state compared with all."""
    fields, tokens = strategy.effective, []
    alpha, count = fields["penalty_alpha"], fields["top_k"]
    for step in range(strategy.max_new_tokens):
        text = [*prompt.ids, *tokens]
        scores = read(model, text)[0].copy()
        for token in set(text):
            penalty = fields["repetition_penalty"]
            scores[token] = scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
        size = fields["no_repeat_ngram_size"]
        for start in range(len(text) - size + 1 if size else 0):
            if text[start : start + size - 1] == text[len(text) - size + 1 :]:
                scores[text[start + size - 1]] = -np.inf
        if step < (fields["min_new_tokens"] or 0):
            scores[list(strategy.eos_token_ids)] = -np.inf
        p = np.exp(scores - scores.max())
        p /= p.sum()
        best, most = -1, -np.inf
        for candidate in np.argsort(-scores, kind="stable")[:count]:
            hidden = read(model, [*text, int(candidate)])[1]
            hidden = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
            score = (1 - alpha) * p[candidate] - alpha * (hidden[:-1] @ hidden[-1]).max()
            if score > most and np.isfinite(scores[candidate]):
                best, most = int(candidate), score
        tokens.append(best)
        if best in strategy.eos_token_ids:
            break
    return tokens


def requests_of(strategy: Strategy, prompts: list[Prompt]) -> list[Request]:
    return [Request(prompt, 0, strategy) for prompt in prompts]


@pytest.mark.thinned(5)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_it_equals_brute_force_alone_and_in_a_ragged_batch(
    kind: str, name: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    strategy = strategy_of(loaded, max_new_tokens=TOKENS, **STRATEGIES[name])
    requests = requests_of(strategy, prompts_of(loaded))
    double = copy.deepcopy(loaded.model).double()
    together = contrastive_search(loaded, requests, detokenizer)
    for request, sample in zip(requests, together, strict=True):
        assert list(sample.token_ids) == reference(double, request.prompt, strategy), request.prompt.id
    assert len({len(request.prompt.ids) for request in requests}) > 2
    for some in (
        [contrastive_search(loaded, [request], detokenizer)[0] for request in requests],
        contrastive_search(loaded, requests[::-1], detokenizer)[::-1],
        contrastive_search(loaded, requests[:3], detokenizer, use_cache=False),
    ):
        assert [sample.token_ids for sample in some] == [s.token_ids for s in together[: len(some)]]


@pytest.mark.parametrize("fields", [{}, {"repetition_penalty": 1.4}], ids=str)
def test_without_a_penalty_it_is_greedy_decoding(
    fields: dict[str, Any], loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    for kind in KINDS:
        loaded = loaded_model(kind)
        detokenizer = Detokenizer(loaded.tokenizer)
        greedy = strategy_of(loaded, **fields)
        expected = decode_tree(loaded, requests_of(greedy, prompts_of(loaded)), detokenizer)
        strategy = strategy_of(loaded, penalty_alpha=0.0, top_k=4, **fields)
        found = contrastive_search(loaded, requests_of(strategy, prompts_of(loaded)), detokenizer)
        assert [sample.token_ids for sample in found] == [sample.token_ids for sample in expected]
        assert [sample.output for sample in found] == [sample.output for sample in expected]


def test_it_repeats_less_than_greedy_decoding(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """What it is for: on a model that loops, fewer tokens are there twice."""
    loaded = loaded_model("llama")

    def distinct(**fields: Any) -> float:
        strategy = strategy_of(loaded, ends=False, max_new_tokens=40, **fields)
        run = contrastive_search if fields else decode_tree
        samples = run(loaded, requests_of(strategy, prompts_of(loaded)), Detokenizer(loaded.tokenizer))
        return sum(len(set(sample.token_ids)) for sample in samples)

    assert distinct(penalty_alpha=0.6, top_k=8) > 1.5 * distinct()


def test_a_removed_token_is_no_candidate(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """Where the processors leave fewer than k tokens, none of the others is taken for being new."""
    loaded = loaded_model("llama")
    vocabulary = loaded.model.config.vocab_size
    left = (40, 41)
    removed = tuple(token for token in range(vocabulary) if token not in left)
    strategy = strategy_of(
        loaded, ends=False, max_new_tokens=8, penalty_alpha=0.95, top_k=6, suppress_tokens=removed
    )
    for sample in contrastive_search(
        loaded, requests_of(strategy, prompts_of(loaded)), Detokenizer(loaded.tokenizer)
    ):
        assert set(sample.token_ids) <= set(left)
        assert (sample.steps.kept == 2).all()
        assert np.isfinite(sample.steps.warped_logprob).all()


def test_all_tokens_removed_is_a_failure(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    everything = tuple(range(loaded.model.config.vocab_size))
    strategy = strategy_of(loaded, penalty_alpha=0.6, top_k=4, suppress_tokens=everything)
    (found,) = contrastive_search(
        loaded, requests_of(strategy, prompts_of(loaded))[:1], Detokenizer(loaded.tokenizer)
    )
    assert isinstance(found, Failure)
    assert "the strategy leaves no token" in str(found.error)


def test_more_candidates_than_tokens(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("gpt2")
    size = loaded.model.config.vocab_size
    found = [
        contrastive_search(
            loaded,
            requests_of(
                strategy_of(loaded, penalty_alpha=0.6, top_k=k, max_new_tokens=3), prompts_of(loaded)[:1]
            ),
            Detokenizer(loaded.tokenizer),
        )[0].token_ids
        for k in (size, size + 100)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["usual", "penalised"])
def test_what_is_recorded(name: str, loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """The model's probabilities, and the processed ones over the candidates, renormalised, in float64."""
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, max_new_tokens=8, ends=False, **STRATEGIES[name])
    requests = requests_of(strategy, prompts_of(loaded))
    double = copy.deepcopy(loaded.model).double()
    for request, sample in zip(
        requests, contrastive_search(loaded, requests, Detokenizer(loaded.tokenizer)), strict=True
    ):
        for step, token in enumerate(sample.token_ids):
            text = [*request.prompt.ids, *sample.token_ids[:step]]
            logits = torch.from_numpy(read(double, text)[0])
            log_p = logits.log_softmax(-1)
            assert sample.steps.logprob[step] == pytest.approx(float(log_p[token]), abs=1e-4)
            assert sample.steps.entropy[step] == pytest.approx(float(-(log_p.exp() * log_p).sum()), abs=1e-4)
            penalty = strategy.effective["repetition_penalty"]
            for seen in set(text):
                logits[seen] = logits[seen] * penalty if logits[seen] < 0 else logits[seen] / penalty
            kept = logits.topk(strategy.effective["top_k"])
            assert token in kept.indices
            expected = float(logits[token] - kept.values.logsumexp(-1))
            assert sample.steps.warped_logprob[step] == pytest.approx(expected, abs=1e-4)
            assert sample.steps.kept[step] == strategy.effective["top_k"]
            mass = float(log_p[kept.indices].exp().sum())
            assert sample.steps.kept_mass[step] == pytest.approx(mass, abs=1e-4)


def test_texts_end_where_they_do_alone(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """By a stop string, by EOS, by the budget: the texts that go on are not disturbed."""
    loaded = loaded_model("fable_small")
    prompts = prompts_of(loaded)
    detokenizer = Detokenizer(loaded.tokenizer)
    plain = strategy_of(loaded, max_new_tokens=40, penalty_alpha=0.6, top_k=4)
    first = contrastive_search(loaded, requests_of(plain, prompts), detokenizer)
    stop = detokenizer.token_text(first[0].token_ids[6]).strip() or "e"
    strategy = replace(plain, stop_strings=(stop,))
    samples = contrastive_search(loaded, requests_of(strategy, prompts), detokenizer)
    assert samples[0].finish_reason == "stop_string"
    for request, sample, whole in zip(requests_of(strategy, prompts), samples, first, strict=True):
        (alone,) = contrastive_search(loaded, [request], detokenizer)
        assert (sample.token_ids, sample.finish_reason) == (alone.token_ids, alone.finish_reason)
        assert whole.token_ids[: len(sample.token_ids)] == sample.token_ids
        assert (sample.finish_reason == "stop_string") == (stop in whole.output)
        assert sample.times.started < sample.times.first_token <= sample.times.ended


def test_through_the_backend(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("fable_small")
    strategy = strategy_of(loaded, **STRATEGIES["usual"])
    greedy = strategy_of(loaded)
    requests = requests_of(strategy, prompts_of(loaded)) + requests_of(greedy, prompts_of(loaded))
    backend = HfBackend(loaded)
    backend.configure(Engine(threads=1))
    found = list(backend.generate(requests, SILENT))
    detokenizer = Detokenizer(loaded.tokenizer)
    expected = contrastive_search(loaded, requests[:5], detokenizer) + decode_tree(
        loaded, requests[5:], detokenizer
    )
    assert [sample.token_ids for sample in found] == [sample.token_ids for sample in expected]
    searched = sum(len(sample.token_ids) for sample in found[:5])
    alone = HfBackend(loaded)
    alone.configure(Engine(threads=1))
    list(alone.generate(requests[:5], SILENT))
    assert (alone.usage().rows, alone.usage().tokens) == (4 * searched, searched)


def test_where_the_tree_is_not_right_each_text_is_read_by_itself(
    loaded_model: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, **STRATEGIES["usual"])
    modes = VerifiedModes(loaded, Detokenizer(loaded.tokenizer))
    method = method_of(strategy.effective, tree_is_right=False)
    assert method.name == "contrastive_search"
    assert modes.mode_of(method, strategy) == GENERATE_MODES[0]
    monkeypatch.setattr(modes, "tree_is_right", False)
    assert modes.mode_of(method, strategy) == GENERATE_MODES[-1]
    assert not GENERATE_MODES[-1].use_cache


def test_the_latency_pass_times_its_own_loop(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, **STRATEGIES["usual"])
    timing = Timing(name="t", prompts=4, repeats=2, warmup=1, batch_size=2, new_tokens=5)
    ticks: list[int] = []
    found = time_strategy(
        loaded,
        requests_of(strategy, prompts_of(loaded)),
        timing,
        context_length=None,
        on_repetition=lambda: ticks.append(1),
    )
    assert [(one.batch_size, one.output_tokens, len(one.itl_ms)) for one in found] == [(2, 5, 4)] * 4
    assert all(one.ttft_ms > 0 and min(one.itl_ms) > 0 for one in found)
    assert len(ticks) == 6


def test_reading_its_output_again_chooses_nothing(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, max_new_tokens=6, **STRATEGIES["usual"])
    (request, *_) = requests_of(strategy, prompts_of(loaded))
    (sample,) = contrastive_search(loaded, [request], Detokenizer(loaded.tokenizer))
    again = read_again(loaded, request, sample.token_ids)
    assert again.chosen is None
    assert again.columns["logprob"] == pytest.approx(sample.steps.logprob, abs=1e-4)
