"""Diverse beam search against brute force: every beam a whole forward pass in float64, no cache, no batch."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.beams import beam_search
from harness.backends.hf.diverse_beams import DiverseBeams
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.methods import method_of
from harness.backends.hf.search_outputs import search_outputs
from harness.backends.hf.tree import decode_tree
from harness.config.point import Engine, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.progress import SILENT
from harness.prompts.prompt import Prompt

diverse_beams = partial(search_outputs, DiverseBeams)

KINDS = ("llama", "qwen2", "gpt2", "fable_small")
STRATEGIES: dict[str, dict[str, Any]] = {
    "two groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    "three groups": {
        "num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5, "early_stopping": True,
    },
    "a beam a group": {"num_beams": 4, "num_beam_groups": 4, "diversity_penalty": 1.0},
    "longer": {
        "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.4, "length_penalty": 2.0,
        "early_stopping": "never",
    },
    "processed": {
        "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.8, "no_repeat_ngram_size": 2,
        "repetition_penalty": 1.2, "length_penalty": 0.0,
    },
}  # fmt: skip
TOKENS = 10
Scored = tuple[float, tuple[int, ...]]


class Reference:
    """The search as it is defined, a beam after the other."""

    def __init__(self, model: Any, prompt: Prompt, strategy: Strategy) -> None:
        self.model, self.prompt, self.strategy = model, prompt, strategy
        self.fields = strategy.effective
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    @torch.inference_mode()
    def scores(self, tokens: tuple[int, ...]) -> np.ndarray:
        """log_softmax, then the processors."""
        if tokens not in self.known:
            text = [*self.prompt.ids, *tokens]
            scores = self.model(torch.tensor([text]), use_cache=False).logits[0, -1].log_softmax(-1).numpy()
            for token in set(text):
                scores[token] *= self.fields["repetition_penalty"]  # log-probabilities are below zero
            size = self.fields["no_repeat_ngram_size"]
            for start in range(len(text) - size + 1 if size else 0):
                if text[start : start + size - 1] == text[len(text) - size + 1 :]:
                    scores[text[start + size - 1]] = -np.inf
            self.known[tokens] = scores
        return self.known[tokens]

    def outputs(self) -> list[Scored]:
        """Score and tokens of the outputs of all groups, the best first."""
        fields, ends = self.fields, self.strategy.eos_token_ids
        size = fields["num_beams"] // fields["num_beam_groups"]
        power, longest = fields["length_penalty"], self.strategy.max_new_tokens
        open_beams: list[list[tuple[float, tuple[int, ...]]]] = [
            [(0.0, ())] for _ in range(fields["num_beam_groups"])
        ]
        finished: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in open_beams]
        for length in range(1, longest + 1):
            chosen: Counter[int] = Counter()
            for group, beams in enumerate(open_beams):
                if not beams:
                    continue
                every = []
                for total, tokens in beams:
                    scores = self.scores(tokens).copy()
                    for token, count in chosen.items():
                        scores[token] -= fields["diversity_penalty"] * count
                    every += [(total + score, (*tokens, token)) for token, score in enumerate(scores)]
                every.sort(key=lambda one: -one[0])
                new = []
                for rank, (total, tokens) in enumerate(every[: max(2, 1 + len(ends)) * size]):
                    if tokens[-1] in ends:
                        if rank < size:
                            finished[group].append((total / length**power, tokens))
                            finished[group].sort(key=lambda one: -one[0])
                            del finished[group][size:]
                    elif len(new) < size:
                        new.append((total, tokens))
                    if len(new) == size:
                        break
                chosen.update(tokens[-1] for _, tokens in new)
                if len(finished[group]) == size:
                    best, early = every[0][0], fields["early_stopping"]
                    divisor = longest if early == "never" and power > 0 else length
                    if early is True or finished[group][-1][0] >= best / divisor**power:
                        new = []
                open_beams[group] = new
        for group, beams in enumerate(open_beams):
            finished[group] += [(total / longest**power, tokens) for total, tokens in beams]
            finished[group].sort(key=lambda one: -one[0])
            del finished[group][size:]
        self.groups = finished
        return sorted((one for group in finished for one in group), key=lambda one: -one[0])


def requests_of(strategy: Strategy, prompts: list[Prompt], samples: int = 1) -> list[Request]:
    return [Request(prompt, sample, strategy) for prompt in prompts for sample in range(samples)]


@pytest.mark.thinned(5)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_all_outputs_equal_brute_force_alone_and_in_a_ragged_batch(
    kind: str, name: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    strategy = strategy_of(loaded, max_new_tokens=TOKENS, **STRATEGIES[name])
    beams, groups = strategy.effective["num_beams"], strategy.effective["num_beam_groups"]
    prompts = prompts_of(loaded)[:4]
    requests = requests_of(strategy, prompts, beams)
    double = copy.deepcopy(loaded.model).double()
    together = diverse_beams(loaded, requests, detokenizer)
    assert len({len(prompt.ids) for prompt in prompts}) > 2
    for number, prompt in enumerate(prompts):
        found = [sample.token_ids for sample in together[number * beams : (number + 1) * beams]]
        reference = Reference(double, prompt, strategy)
        outputs = [tokens for _, tokens in reference.outputs()]
        assert found[0] == outputs[0], prompt.id
        assert sorted(found) == sorted(outputs), prompt.id
        assert sorted(found[:groups]) == sorted(group[0][1] for group in reference.groups)
    for some in (
        [diverse_beams(loaded, [request], detokenizer)[0] for request in requests[:: beams - 1]],
        diverse_beams(loaded, requests[::-1], detokenizer)[::-1][:: beams - 1],
    ):
        assert [sample.token_ids for sample in some] == [s.token_ids for s in together[:: beams - 1]]
    whole = diverse_beams(loaded, requests[:beams], detokenizer, use_cache=False)
    assert [sample.token_ids for sample in whole] == [sample.token_ids for sample in together[:beams]]


def test_scores_and_probabilities_are_those_of_the_text_not_of_the_search(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """The diversity penalty is in no score: outputs of later groups are scored as those of the first one."""
    loaded = loaded_model("llama")
    double = copy.deepcopy(loaded.model).double()
    strategy = strategy_of(
        loaded, max_new_tokens=6, num_beams=4, num_beam_groups=4, diversity_penalty=3.0, length_penalty=0.5
    )
    requests = requests_of(strategy, prompts_of(loaded), 4)
    for request, sample in zip(
        requests, diverse_beams(loaded, requests, Detokenizer(loaded.tokenizer)), strict=True
    ):
        ids = torch.tensor([[*request.prompt.ids, *sample.token_ids]])
        with torch.inference_mode():
            log_p = double(ids).logits[0, len(request.prompt.ids) - 1 : -1].log_softmax(-1)
        expected = log_p.gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0]
        assert sample.steps.logprob == pytest.approx(expected.numpy(), abs=1e-4)
        score = float(expected.sum()) / len(sample.token_ids) ** 0.5
        assert sample.sequence_score == pytest.approx(score, abs=1e-3)


def test_a_finished_group_is_no_penalty_for_later_ones(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """The first group ends early and chooses no padding from then on: pad is as free as any token."""
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    fields = {"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 50.0, "early_stopping": True}
    greedy = strategy_of(loaded, ends=False, max_new_tokens=3)
    tried = 0
    for prompt in prompts_of(loaded):
        (plain,) = decode_tree(loaded, [Request(prompt, 0, greedy)], detokenizer)
        strategy = replace(
            strategy_of(loaded, max_new_tokens=8, **fields), eos_token_ids=plain.token_ids[-1:]
        )
        found = diverse_beams(loaded, requests_of(strategy, [prompt], 2), detokenizer)
        first, second = sorted((sample.token_ids for sample in found), key=len)
        for pad in second[len(first) :]:
            tried += 1
            requests = requests_of(replace(strategy, pad_token_id=pad), [prompt], 2)
            again = diverse_beams(loaded, requests, detokenizer)
            assert [sample.token_ids for sample in again] == [sample.token_ids for sample in found]
    assert tried >= 10


def test_an_output_ends_with_the_eos_that_ended_it(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """Of several EOS ids: the model's own choice, where transformers 4.49 writes the first one for all."""
    loaded = loaded_model("fable_small")
    double = copy.deepcopy(loaded.model).double()
    strategy = replace(
        strategy_of(loaded, max_new_tokens=24, **STRATEGIES["two groups"]), eos_token_ids=(2, 3)
    )
    texts = ("Once upon a time there was a fox", "It was a dark", "The old king had")
    prompts = prompts_of(loaded, texts)
    samples = diverse_beams(loaded, requests_of(strategy, prompts, 4), Detokenizer(loaded.tokenizer))
    expected = [sorted(tokens for _, tokens in Reference(double, one, strategy).outputs()) for one in prompts]
    found = [sample.token_ids for sample in samples]
    assert [sorted(found[start : start + 4]) for start in range(0, len(found), 4)] == expected
    assert {sample.token_ids[-1] for sample in samples if sample.finish_reason == "eos"} == {3}


def test_a_single_beam_in_each_of_equal_groups_is_greedy_decoding(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    for kind in KINDS:
        loaded = loaded_model(kind)
        detokenizer = Detokenizer(loaded.tokenizer)
        greedy = strategy_of(loaded, ends=False, max_new_tokens=12)
        expected = decode_tree(loaded, requests_of(greedy, prompts_of(loaded)), detokenizer)
        strategy = strategy_of(
            loaded, ends=False, max_new_tokens=12, num_beams=3, num_beam_groups=3, diversity_penalty=0.0
        )
        found = diverse_beams(loaded, requests_of(strategy, prompts_of(loaded), 3), detokenizer)
        assert [s.token_ids for s in found] == [s.token_ids for s in expected for _ in range(3)]


@pytest.mark.parametrize("early", [True, False, "never"])
def test_without_a_penalty_every_group_is_beam_search(
    early: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """Stock beam search of as many beams as a group has."""
    for kind in KINDS:
        loaded = loaded_model(kind)
        detokenizer = Detokenizer(loaded.tokenizer)
        beams = strategy_of(loaded, num_beams=3, early_stopping=early)
        expected = beam_search(loaded, requests_of(beams, prompts_of(loaded)), detokenizer)
        strategy = strategy_of(
            loaded, num_beams=6, num_beam_groups=2, diversity_penalty=0.0, early_stopping=early
        )
        found = diverse_beams(loaded, requests_of(strategy, prompts_of(loaded)), detokenizer)
        assert [s.token_ids for s in found] == [s.token_ids for s in expected]
        assert [s.sequence_score for s in found] == pytest.approx([s.sequence_score for s in expected])
        assert [s.finish_reason for s in found] == [s.finish_reason for s in expected]


def test_more_penalty_more_diverse(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """What it is for: the first tokens of the groups' best outputs differ."""
    loaded = loaded_model("fable_small")

    def distinct(penalty: float) -> int:
        strategy = strategy_of(
            loaded, ends=False, max_new_tokens=8, num_beams=4, num_beam_groups=4, diversity_penalty=penalty
        )
        samples = diverse_beams(
            loaded, requests_of(strategy, prompts_of(loaded), 4), Detokenizer(loaded.tokenizer)
        )
        groups = [samples[start : start + 4] for start in range(0, len(samples), 4)]
        return sum(len({sample.token_ids[0] for sample in group}) for group in groups)

    assert distinct(0.0) == 5
    assert distinct(100.0) == 20


def test_stop_strings_finish_beams(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("fable_small")
    detokenizer = Detokenizer(loaded.tokenizer)
    fields = STRATEGIES["three groups"]
    strategy = strategy_of(loaded, max_new_tokens=24, stop_strings=("e",), **fields)
    samples = diverse_beams(loaded, requests_of(strategy, prompts_of(loaded), 6), detokenizer)
    assert any(sample.finish_reason == "stop_string" for sample in samples)
    for sample in samples:
        assert ("e" in sample.output) == (sample.finish_reason == "stop_string")
        assert "e" not in "".join(sample.steps.token[:-1])


def test_too_few_outputs_is_a_failure(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """Two tokens are left, of one step: two outputs, the same in both groups' eyes."""
    loaded = loaded_model("llama")
    removed = tuple(token for token in range(loaded.model.config.vocab_size) if token not in (40, 41))
    fields = {"num_beams": 6, "num_beam_groups": 2, "diversity_penalty": 1.0}
    strategy = strategy_of(loaded, ends=False, max_new_tokens=1, suppress_tokens=removed, **fields)
    found = diverse_beams(
        loaded, requests_of(strategy, prompts_of(loaded)[:1], 6), Detokenizer(loaded.tokenizer)
    )
    assert sorted(sample.token_ids for sample in found[:4]) == [(40,), (40,), (41,), (41,)]
    assert all(isinstance(one, Failure) for one in found[4:])
    assert "the search has 4 outputs only; set generation.samples=4" in str(found[4].error)


def test_through_the_backend_and_timed(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("fable_small")
    strategy = strategy_of(loaded, **STRATEGIES["three groups"])
    assert method_of(strategy.effective).name == "diverse_beams"
    backend = HfBackend(loaded)
    backend.configure(Engine(threads=1))
    requests = requests_of(strategy, prompts_of(loaded), 3)
    found = list(backend.generate(requests, SILENT))
    expected = diverse_beams(loaded, requests, Detokenizer(loaded.tokenizer))
    assert [sample.token_ids for sample in found] == [sample.token_ids for sample in expected]
    timing = Timing(name="t", prompts=4, repeats=2, warmup=1, batch_size=2, new_tokens=5)
    times = time_strategy(loaded, requests_of(strategy, prompts_of(loaded)), timing, context_length=None)
    assert [(one.ttft_ms, one.itl_ms, one.output_tokens) for one in times] == [(None, (), 5)] * 4
