"""The backend: requests in, samples or failures out, in order; and the facts that it reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fp8_cache import needs_fp8_cache

from harness.backends.backend import Failure, Request, TokenIds
from harness.backends.hf import backend as module
from harness.backends.hf import tree, verified_modes
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.beams import beam_search
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.config.point import Engine, Model, Quantization, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.processors import Processors
from harness.errors import HarnessError
from harness.models.memory import kv_cache_bytes
from harness.progress import SILENT
from harness.store.records import Sample


class Recorded:
    """A Progress that remembers its stages and what was done of each."""

    def __init__(self) -> None:
        self.stages: list[list[Any]] = []
        self.advanced = 0

    def stage(self, label: str, total: int, unit: str) -> None:
        self.stages.append([label, total, unit, 0])

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount
        if self.stages:
            self.stages[-1][3] += amount

    def message(self, text: str) -> None:
        pass


@pytest.fixture
def opened(loaded_model: Any) -> HfBackend:
    backend = HfBackend(loaded_model("llama"))
    backend.configure(Engine(threads=1))
    return backend


def requests_of(prompts: Any, *strategies: Any) -> list[Request]:
    return [Request(prompt, 0, strategy) for strategy in strategies for prompt in prompts]


def ids(answers: Any) -> list[Any]:
    return [answer.token_ids for answer in answers]


@needs_fp8_cache
def test_requests_of_all_methods_are_answered_in_order(
    opened: HfBackend, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    prompts = prompts_of(loaded)
    greedy, top_p = strategy_of(loaded), strategy_of(loaded, do_sample=True, top_p=0.9)
    beams, sampled = strategy_of(loaded, num_beams=2), strategy_of(loaded, num_beams=2, do_sample=True)
    fp8 = replace(greedy, cache={"backend": "fp8"})
    requests = [
        Request(prompt, 0, strategy)
        for prompt in prompts
        for strategy in (greedy, beams, fp8, top_p, sampled)
    ]
    progress = Recorded()
    answers = list(opened.generate(requests, progress))
    assert all(isinstance(answer, Sample) for answer in answers)
    assert [answer.prompt_id for answer in answers] == [request.prompt.id for request in requests]
    detokenizer = Detokenizer(loaded.tokenizer)
    for offset, strategy, run, batched in (
        (0, greedy, decode_tree, True),
        (1, beams, beam_search, True),
        (2, fp8, stock_generate, False),
        (3, top_p, decode_tree, True),
        (4, sampled, beam_search, False),
    ):
        own = requests_of(prompts, strategy)
        batches = [own] if batched else [[request] for request in own]
        expected = [sample for batch in batches for sample in run(loaded, batch, detokenizer)]
        assert ids(answers[offset::5]) == ids(expected)
    assert progress.advanced >= opened.usage().tokens == sum(answer.output_tokens for answer in answers)


def test_usage_since_configure(
    opened: HfBackend, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    requests = requests_of(
        prompts_of(loaded), strategy_of(loaded), strategy_of(loaded, repetition_penalty=1.2)
    )
    progress = Recorded()
    answers = list(opened.generate(requests, progress))
    usage = opened.usage()
    assert usage.tokens == progress.advanced == sum(answer.output_tokens for answer in answers)
    assert 0 < usage.rows < usage.tokens, "prefixes are shared"
    assert usage.batch_rows == 512
    assert not usage.captured
    assert usage.peak_mb is not None
    list(opened.generate(requests, SILENT))
    assert opened.usage().tokens == 2 * usage.tokens
    opened.configure(Engine(threads=1, batch_rows=3))
    assert (opened.usage().tokens, opened.usage().rows) == (0, 0)
    assert ids(opened.generate(requests, SILENT)) == ids(answers)
    assert opened.usage().batch_rows == 3


def test_a_strategy_that_fails_fails_alone(
    opened: HfBackend, loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")
    good, bad = strategy_of(loaded), strategy_of(loaded, repetition_penalty=1.3)
    other = strategy_of(loaded, do_sample=True, temperature=1.2)
    original = Processors.__call__

    def broken(self: Any, *args: Any, **more: Any) -> Any:
        if self._first:  # of the penalty
            raise ValueError("broken on purpose")
        return original(self, *args, **more)

    monkeypatch.setattr(Processors, "__call__", broken)
    prompts = prompts_of(loaded)
    answers = list(opened.generate(requests_of(prompts, good, bad, other), SILENT))
    count = len(prompts)
    assert all(isinstance(answer, Failure) for answer in answers[count : 2 * count])
    assert {str(answer.error) for answer in answers[count : 2 * count]} == {"broken on purpose"}
    expected = opened.generate(requests_of(prompts, good, other), SILENT)
    assert ids(answers[:count] + answers[2 * count :]) == ids(expected)
    assert all(isinstance(a, Failure) for a in opened.generate(requests_of(prompts, bad), SILENT))


def test_a_strategy_fails_alone_in_stock_generate_too(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_modes, "tree_is_right", lambda *_: False)
    loaded = loaded_model("llama")
    backend = HfBackend(loaded)
    (warning,) = backend.warnings
    assert "self-test" in warning
    prompts = prompts_of(loaded)
    good, bad = strategy_of(loaded), strategy_of(loaded, repetition_penalty=1.3)
    expected = stock_generate(loaded, requests_of(prompts, good), Detokenizer(loaded.tokenizer))
    original = Processors.__call__

    def broken(self: Any, *args: Any, **more: Any) -> Any:
        if self._first:  # of the penalty
            raise ValueError("broken on purpose")
        return original(self, *args, **more)

    monkeypatch.setattr(Processors, "__call__", broken)
    answers = list(backend.generate(requests_of(prompts, bad, good), SILENT))
    assert [str(answer.error) for answer in answers[: len(prompts)]] == ["broken on purpose"] * len(prompts)
    assert ids(answers[len(prompts) :]) == ids(expected)


def test_too_little_memory_halves_batches_and_fails_what_does_not_fit(
    opened: HfBackend, loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")
    prompts = prompts_of(loaded)
    small, large = strategy_of(loaded), strategy_of(loaded, max_new_tokens=30)
    sizes: list[int] = []

    def scarce(loaded: Any, requests: Any, *rest: Any, **more: Any) -> Any:
        sizes.append(len(requests))
        if len(requests) > 2 or any(request.strategy is large for request in requests):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return decode_tree(loaded, requests, *rest, **more)

    expected = ids(opened.generate(requests_of(prompts, small), SILENT))
    monkeypatch.setattr(tree, "decode_tree", scarce)
    answers = list(opened.generate(requests_of(prompts, small, large), SILENT))
    assert ids(answers[: len(prompts)]) == expected
    longest = max(len(prompt.ids) for prompt in prompts)
    for answer in answers[len(prompts) :]:
        assert isinstance(answer.error, HarnessError)
        assert isinstance(answer.error.__cause__, torch.OutOfMemoryError)
        assert str(answer.error).startswith("out of memory on cpu with a single ")
        assert "cache takes up to " in str(answer.error)
        assert f"prompts of up to {longest} tokens, generation.max_new_tokens=30" in str(answer.error)
    assert max(sizes) == 2 * len(prompts)
    assert opened.usage().batch_rows <= 2
    sizes.clear()
    list(opened.generate(requests_of(prompts, small), SILENT))
    assert max(sizes) <= 2, "the smaller size is kept until the next configure"


def test_batch_size(opened: HfBackend, loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    prompts = prompts_of(loaded)
    greedy, beams = strategy_of(loaded), strategy_of(loaded, num_beams=4)
    cache = kv_cache_bytes(loaded.files.text_config, max(len(prompt.ids) for prompt in prompts) + 20, 4)
    request = 2 * cache + loaded.files.vocab_size * 4 * 12
    opened._free_bytes = round(6.5 * request / 0.6)  # six requests and a half in three fifths of it
    assert opened.batch_size(requests_of(prompts, greedy)) == 6
    assert opened.batch_size(requests_of(prompts, beams)) == 1
    opened._free_bytes = 10**15
    assert opened.batch_size(requests_of(prompts, greedy)) == 512
    assert opened.batch_size(requests_of(prompts, beams)) == 128
    assert opened.batch_size(requests_of(prompts, strategy_of(loaded, num_beams=4, do_sample=True))) == 1
    assert opened.batch_size(requests_of(prompts, replace(greedy, cache={"backend": "fp8"}))) == 1
    opened._free_bytes = 0
    assert opened.batch_size(requests_of(prompts, greedy)) == 1
    opened.configure(Engine(threads=1, batch_rows=4))
    assert opened.batch_size(requests_of(prompts, greedy)) == 4


def test_facts_that_it_reports(
    opened: HfBackend, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    assert opened.warnings == ()
    assert opened.token_ids == TokenIds((loaded.tokenizer.eos_token_id,), loaded.tokenizer.pad_token_id)
    assert all(vars(opened.capabilities).values())
    found = opened.environment()
    assert found["model"]["cache_bytes_per_token"] == kv_cache_bytes(loaded.files.text_config, 1, 4)
    assert found["versions"]["torch"]
    effective = opened.effective(strategy_of(loaded))
    assert effective["eos_token_id"] == [loaded.tokenizer.eos_token_id]
    assert (effective["device"], effective["dtype"], effective["cache"]) == ("cpu", "float32", None)
    prompts = prompts_of(loaded)
    for prompt, scores in zip(prompts, opened.score(prompts), strict=True):
        assert scores.prompt_id == prompt.id
        assert len(scores.token) == len(scores.logprob) == len(prompt.ids)
        assert "".join(scores.token) == Detokenizer(loaded.tokenizer).decode(prompt.ids)
    progress = Recorded()
    timing = Timing(name="t", prompts=2, repeats=2, warmup=1, new_tokens=4)
    repetitions = opened.time(requests_of(prompts, strategy_of(loaded)), timing, progress)
    assert len(repetitions) == 4
    assert progress.advanced == 6


def test_open_loads_and_close_frees(small_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    progress = Recorded()
    model = Model(name="x", id=str(small_model("llama")), device="cpu")
    backend = HfBackend.open(model, Quantization(name="fp32", dtype="float32"), progress)
    assert progress.stages[0][0] == "loading weights"
    assert all(stage[1:] == [100, "%", 100] for stage in progress.stages)
    loaded = backend._loaded
    assert loaded.model.generation_config.eos_token_id is None, "nothing of the model's own is left"
    (answer,) = backend.generate(requests_of(prompts_of(loaded)[:1], strategy_of(loaded)), SILENT)
    assert isinstance(answer, Sample)
    backend.close()
    assert not list(loaded.model.parameters())


def test_the_caller_gets_its_threads_back(loaded_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free", lambda loaded: None)
    before = torch.get_num_threads()
    backend = HfBackend(loaded_model("llama"))
    for threads, found in ((2, 2), ("auto", 1)):  # OMP_NUM_THREADS=1 in all tests
        backend.configure(Engine(threads=threads))
        assert torch.get_num_threads() == found
    backend.configure(Engine(threads=before + 1))
    backend.close()
    assert torch.get_num_threads() == before
