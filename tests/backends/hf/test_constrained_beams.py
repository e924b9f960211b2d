"""Constrained beam search against brute force: whole texts in float64, no cache, no batch, no state."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.beams import beam_search
from harness.backends.hf.constrained_beams import ConstrainedBeams
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.search_outputs import search_outputs
from harness.config.point import Engine, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.forced_words import words_of
from harness.decoding.strategy import Strategy
from harness.progress import SILENT
from harness.prompts.prompt import Prompt

constrained_beams = partial(search_outputs, ConstrainedBeams)

KINDS = ("llama", "qwen2", "gpt2", "fable_small")
STRATEGIES: dict[str, dict[str, Any]] = {
    "a word": {"num_beams": 4, "force_words_ids": ((60, 61),)},
    "words and alternatives": {
        "num_beams": 6, "early_stopping": True, "force_words_ids": (((50,), (51, 52)), (70, 71, 70, 72)),
    },
    "processed": {
        "num_beams": 3, "force_words_ids": ((90,), (91,)), "repetition_penalty": 1.3, "length_penalty": 2.0,
        "early_stopping": "never",
    },
    "all of the budget": {"num_beams": 2, "force_words_ids": ((40, 41, 42, 43, 44), (45, 46, 47, 48, 49))},
}  # fmt: skip
TOKENS = 10
Text = tuple[int, ...]


class Reference:
    """The search as it is defined: every beam's next scores from its whole text, every text searched anew."""

    def __init__(self, model: Any, prompt: Prompt, strategy: Strategy) -> None:
        self.model, self.prompt, self.strategy = model, prompt, strategy
        self.fields = strategy.effective
        self.words = words_of(self.fields["force_words_ids"])

    @torch.inference_mode()
    def scores(self, tokens: Text) -> np.ndarray:
        """log_softmax, then the penalty."""
        text = [*self.prompt.ids, *tokens]
        scores = self.model(torch.tensor([text]), use_cache=False).logits[0, -1].log_softmax(-1).numpy()
        for token in set(text):
            scores[token] *= self.fields["repetition_penalty"]
        return scores

    def lacks(self, tokens: Text) -> list[tuple[Text, ...]]:
        return [
            word
            for word in self.words
            if not any(
                tokens[start : start + len(one)] == one for one in word for start in range(len(tokens))
            )
        ]

    def at(self, tokens: Text, one: Text) -> int:
        return next(n for n in range(len(one) - 1, -1, -1) if tokens[len(tokens) - n :] == one[:n])

    def needs(self, tokens: Text) -> int:
        lacking = self.lacks(tokens)
        lengths = [min(map(len, word)) for word in lacking]
        ways = [len(one) - self.at(tokens, one) for word in lacking for one in word]
        saved = [min(map(len, word)) - len(one) + self.at(tokens, one) for word in lacking for one in word]
        assert len(ways) == len(saved)
        return sum(lengths) - max([0, *saved])

    def result(self) -> tuple[Text, str]:
        fields, ends, size = self.fields, self.strategy.eos_token_ids, self.fields["num_beams"]
        power, longest = fields["length_penalty"], self.strategy.max_new_tokens
        beams: list[tuple[float, Text]] = [(0.0, ())]
        finished: list[tuple[float, Text, str]] = []
        for length in range(1, longest + 1):
            every: list[tuple[float, Text]] = []
            wanted: set[Text] = set()
            for total, tokens in beams:
                scores = total + self.scores(tokens)
                every += [(score, (*tokens, token)) for token, score in enumerate(scores)]
                wanted.add((*tokens, int(scores.argmax())))
                for word in self.lacks(tokens):
                    wanted |= {(*tokens, one[self.at(tokens, one)]) for one in word}
            every.sort(key=lambda one: -one[0])
            usual = max(2, 1 + len(ends)) * size
            candidates = [one for rank, one in enumerate(every) if rank < usual or one[1] in wanted]
            going: list[tuple[float, Text]] = []
            complete = 0
            for total, tokens in candidates:
                has_all = not self.lacks(tokens)
                if tokens[-1] not in ends:
                    going.append((total, tokens))
                elif has_all and complete < size:
                    finished.append((total / length**power, tokens, "eos"))
                complete += has_all
            finished = sorted(finished, key=lambda one: -one[0])[:size]
            in_time = [one for one in going if self.needs(one[1]) <= longest - length]
            ranks: Counter[int] = Counter()
            keys = []
            for total, tokens in in_time or going:
                bank = self.needs(tokens)
                keys.append((ranks[bank], bank, -total, tokens))
                ranks[bank] += 1
            beams = [(-total, tokens) for _, _, total, tokens in sorted(keys)[:size]]
            if len(finished) == size:
                early = fields["early_stopping"]
                divisor = longest if early == "never" and power > 0 else length
                if early is True or finished[-1][0] >= candidates[0][0] / divisor**power:
                    beams = []
                    break
        finished += [(total / longest**power, one, "length") for total, one in beams if not self.lacks(one)]
        return max(finished, key=lambda one: one[0])[1:]


def requests_of(strategy: Strategy, prompts: list[Prompt]) -> list[Request]:
    return [Request(prompt, 0, strategy) for prompt in prompts]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_outputs_equal_brute_force_alone_and_in_a_ragged_batch(
    kind: str, name: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    strategy = strategy_of(loaded, max_new_tokens=TOKENS, **STRATEGIES[name])
    prompts = prompts_of(loaded)[:3]
    double = copy.deepcopy(loaded.model).double()
    together = constrained_beams(loaded, requests_of(strategy, prompts), detokenizer)
    assert len({len(prompt.ids) for prompt in prompts}) > 2
    for prompt, sample in zip(prompts, together, strict=True):
        expected = Reference(double, prompt, strategy).result()
        assert (sample.token_ids, sample.finish_reason) == expected
        (alone,) = constrained_beams(loaded, requests_of(strategy, [prompt]), detokenizer)
        assert alone.token_ids == sample.token_ids
    whole = constrained_beams(loaded, requests_of(strategy, prompts[:2]), detokenizer, use_cache=False)
    assert [sample.token_ids for sample in whole] == [sample.token_ids for sample in together[:2]]


@pytest.mark.parametrize("kind", ["llama", "fable_small"])
def test_with_beams_for_everything_it_is_the_best_text_that_has_the_words(
    kind: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """Four tokens are left, of four steps: 256 texts, enumerated."""
    loaded = loaded_model(kind)
    left, prompt = (40, 50, 60, 70), prompts_of(loaded)[0]
    removed = tuple(token for token in range(loaded.model.config.vocab_size) if token not in left)
    words = ((60, 40), ((70, 70), (50,)))
    strategy = strategy_of(
        loaded, ends=False, max_new_tokens=4, num_beams=256, suppress_tokens=removed, force_words_ids=words
    )
    (found,) = constrained_beams(loaded, requests_of(strategy, [prompt]), Detokenizer(loaded.tokenizer))
    reference = Reference(copy.deepcopy(loaded.model).double(), prompt, strategy)
    texts = [text for text in product(left, repeat=4) if not reference.lacks(text)]
    ids = torch.tensor([[*prompt.ids, *text] for text in texts])
    with torch.inference_mode():
        log_p = reference.model(ids).logits[:, len(prompt.ids) - 1 : -1].log_softmax(-1)
    sums = log_p.gather(2, torch.tensor(texts)[..., None])[..., 0].sum(-1)
    assert found.token_ids == texts[int(sums.argmax())]
    assert found.sequence_score == pytest.approx(float(sums.max()) / 4, abs=1e-4)


def test_a_word_that_beam_search_finds_anyway_changes_nothing(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("fable_small")
    detokenizer, prompts = Detokenizer(loaded.tokenizer), prompts_of(loaded)
    plain = strategy_of(loaded, num_beams=6, max_new_tokens=12)
    tried = 0
    for expected in beam_search(loaded, requests_of(plain, prompts), detokenizer):
        prompt = next(one for one in prompts if one.id == expected.prompt_id)
        for place in (0, 5):
            word = expected.token_ids[place : place + 2]
            strategy = strategy_of(loaded, num_beams=6, max_new_tokens=12, force_words_ids=(word,))
            (found,) = constrained_beams(loaded, requests_of(strategy, [prompt]), detokenizer)
            assert found.token_ids == expected.token_ids, (prompt.id, word)
            assert found.sequence_score == pytest.approx(expected.sequence_score, abs=1e-5)
            tried += 1
    assert tried == 10


def test_the_prompt_does_not_count(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """A word of the prompt, which transformers 4.49 takes for met: the output must have it itself."""
    for kind in KINDS:
        loaded = loaded_model(kind)
        for prompt in prompts_of(loaded)[:3]:
            word = prompt.ids[-3:-1]
            strategy = strategy_of(loaded, num_beams=4, max_new_tokens=8, force_words_ids=(word,))
            (sample,) = constrained_beams(
                loaded, requests_of(strategy, [prompt]), Detokenizer(loaded.tokenizer)
            )
            assert any(sample.token_ids[start : start + 2] == word for start in range(8))


def test_eos_ends_a_text_only_with_all_words(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    """The full stop as EOS, which fable's sentences reach: against brute force, with two stopping rules."""
    loaded = loaded_model("fable_small")
    double = copy.deepcopy(loaded.model).double()
    stop, word = (loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (".", " fire"))
    reasons = set()
    for early in (True, False):
        fields = {"num_beams": 3, "early_stopping": early, "force_words_ids": (tuple(word),)}
        strategy = strategy_of(loaded, max_new_tokens=16, **fields)
        strategy = replace(strategy, eos_token_ids=tuple(stop))
        prompts = prompts_of(loaded)[:4:3]
        found = constrained_beams(loaded, requests_of(strategy, prompts), Detokenizer(loaded.tokenizer))
        for prompt, sample in zip(prompts, found, strict=True):
            expected = Reference(double, prompt, strategy).result()
            assert (sample.token_ids, sample.finish_reason) == expected
            reasons.add(sample.finish_reason)
    assert "eos" in reasons


def test_scores_and_probabilities_are_those_of_the_text(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """Also where scores are far below -100, a bank of transformers 4.49: here 30 unlikely tokens."""
    loaded = loaded_model("llama")
    double = copy.deepcopy(loaded.model).double()
    (prompt,) = prompts_of(loaded)[:1]
    words = tuple((40 + 3 * n, 41 + 3 * n, 42 + 3 * n) for n in range(10))
    strategy = strategy_of(loaded, max_new_tokens=31, num_beams=4, force_words_ids=words, length_penalty=0.0)
    (sample,) = constrained_beams(loaded, requests_of(strategy, [prompt]), Detokenizer(loaded.tokenizer))
    text = " ".join(map(str, sample.token_ids))
    assert all(" ".join(map(str, word)) in text for word in words)
    with torch.inference_mode():
        ids = torch.tensor([[*prompt.ids, *sample.token_ids]])
        log_p = double(ids).logits[0, len(prompt.ids) - 1 : -1].log_softmax(-1)
    expected = log_p.gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0]
    assert sample.steps.logprob == pytest.approx(expected.numpy(), abs=1e-4)
    assert sample.sequence_score == pytest.approx(float(expected.sum()), abs=1e-2)
    assert sample.sequence_score < -100
    assert sample.sequence_logprob is None


def test_a_text_that_cannot_have_the_words_is_a_failure(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    detokenizer, prompts = Detokenizer(loaded.tokenizer), prompts_of(loaded)[:1]
    for fields in (
        {"max_new_tokens": 2, "force_words_ids": ((40, 41, 42),)},
        {"max_new_tokens": 6, "force_words_ids": ((40, 41),), "suppress_tokens": (41,)},
    ):
        strategy = strategy_of(loaded, num_beams=3, **fields)
        (found,) = constrained_beams(loaded, requests_of(strategy, prompts), detokenizer)
        assert isinstance(found, Failure)
        budget = fields["max_new_tokens"]
        assert f"no output of {budget} tokens has all words that are forced; set gen" in str(found.error)


def test_no_output_stops_before_it_has_the_words(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("fable_small")
    word = tuple(loaded.tokenizer(" river", add_special_tokens=False)["input_ids"])
    strategy = strategy_of(
        loaded, max_new_tokens=24, num_beams=4, stop_strings=(".",), force_words_ids=(word,)
    )
    samples = constrained_beams(
        loaded, requests_of(strategy, prompts_of(loaded)), Detokenizer(loaded.tokenizer)
    )
    assert any(sample.finish_reason == "stop_string" for sample in samples)
    for sample in samples:
        assert " river" in sample.output
        assert "." not in sample.output[: sample.output.index(" river")]


def test_through_the_backend_and_timed(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("fable_small")
    strategy = strategy_of(loaded, **STRATEGIES["words and alternatives"])
    backend = HfBackend(loaded)
    backend.configure(Engine(threads=1))
    requests = requests_of(strategy, prompts_of(loaded)[:3])
    found = list(backend.generate(requests, SILENT))
    expected = constrained_beams(loaded, requests, Detokenizer(loaded.tokenizer))
    assert [sample.token_ids for sample in found] == [sample.token_ids for sample in expected]
    timing = Timing(name="t", prompts=3, repeats=1, warmup=0, batch_size=2, new_tokens=4)
    times = time_strategy(loaded, requests, timing, context_length=None)
    assert [(one.ttft_ms, one.itl_ms, one.output_tokens) for one in times] == [(None, (), 4)] * 2
