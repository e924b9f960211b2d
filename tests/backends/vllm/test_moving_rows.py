"""Samples of an engine whose rows move, wait, are read in parts and come back are those of the tree."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_vllm import FakeEngine, install

from harness.backends.backend import Failure, Request
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.strategy_error import StrategyError
from harness.backends.vllm.backend import VllmBackend
from harness.backends.vllm.chooser import Chooser
from harness.backends.vllm.elsewhere import MODEL, REQUEST
from harness.backends.vllm.engine_outputs import Outputs
from harness.backends.vllm.engine_run import run_requests
from harness.backends.vllm.engine_self_test import check_rows
from harness.backends.vllm.request_params import chosen_by_processor
from harness.backends.vllm.vllm_engine import Opened
from harness.config.point import Backend, Engine, Model
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.own_checks import planned_processors
from harness.errors import HarnessError
from harness.progress import SILENT

OWN = str(Path(__file__).parents[1] / "hf" / "own_samples.py")
STRATEGIES: tuple[dict[str, Any], ...] = (
    {},
    {"cot_branches": 2},
    {"do_sample": True, "top_p": 0.9},
    {"do_sample": True, "temperature": 1.2, "min_p": 0.05, "repetition_penalty": 1.3},
    {"do_sample": True, "mirostat_mode": 2},
    {"do_sample": True, "adaptive_target": 0.3},
    {"no_repeat_ngram_size": 2, "dry_multiplier": 0.8},
    {"do_sample": True, "top_p": 0.9, "top_p_decay": 0.8},
)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, loaded_model: Any) -> Any:
    """`backend(rows=5, seed=1)`: a VllmBackend whose engine is the fake, with a small model."""
    install(monkeypatch)
    from harness.backends.vllm.runner_v1 import ProcessorV1
    from harness.backends.vllm.runner_v2 import ProcessorV2

    loaded = loaded_model("llama")

    def made(rows: int = 5, seed: int = 0, *, second: bool = False, **keys: Any) -> VllmBackend:
        processor = ProcessorV2(None, None) if second else ProcessorV1(None, "cpu", False)
        engine = FakeEngine(loaded.model, processor, rows, seed, second=second)
        opened = Opened(engine, 128, rows, {"enforce_eager": True})
        choice = Backend(name="vllm", kind="vllm", **keys)
        found = VllmBackend(loaded, opened, choice, Model(name="small", id="small"))
        found.configure(Engine(threads=1))
        return found

    return made


def answers(backend: VllmBackend, requests: list[Request]) -> list[Any]:
    return list(backend.generate(requests, SILENT))


def equal(found: Any, expected: Any) -> None:
    assert not isinstance(found, Failure), found
    assert found.token_ids == expected.token_ids
    times = {"times": None, "steps": None}
    assert dataclasses.replace(found, **times) == dataclasses.replace(expected, **times)
    one, other = found.steps.numbers(), expected.steps.numbers()
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-4, atol=1e-4, err_msg=name)
    assert found.times.started <= found.times.first_token <= found.times.ended


@pytest.mark.parametrize("second", [False, True], ids=["first runner", "second runner"])
def test_they_are_those_of_the_tree(
    backend: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any, second: bool
) -> None:
    loaded = loaded_model("llama")
    chosen = STRATEGIES[2:5] if second else STRATEGIES
    strategies = [strategy_of(loaded, max_new_tokens=9, **fields) for fields in chosen]
    prompts = prompts_of(loaded)[:3]
    requests = [Request(p, sample, one) for one in strategies for p in prompts for sample in range(2)]
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    one = backend(rows=7, seed=3, second=second)
    for found, wanted in zip(answers(one, requests), expected, strict=True):
        equal(found, wanted)
    engine = one._opened.engine
    assert min(engine.moves, engine.swaps, engine.parts, engine.pushed) > 1
    usage = one.usage()
    assert usage.tokens == sum(len(sample.token_ids) for sample in expected)


def test_objects_of_own_processors_follow_their_texts(
    backend: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    own = []
    for entry, fields in ((f"{OWN}:Counting", {}), (f"{OWN}:Uncopyable", {"do_sample": True, "top_p": 0.9})):
        plain = strategy_of(loaded, max_new_tokens=7, **fields)
        planned = planned_processors([entry])
        own.append(dataclasses.replace(plain, effective={**plain.effective, **planned.fields}))
    requests = [Request(prompt, 0, one) for one in own for prompt in prompts_of(loaded)]
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    one = backend(rows=4, seed=1)
    one._opened.engine.pushes = False
    for found, wanted in zip(answers(one, requests), expected, strict=True):
        equal(found, wanted)
    pushed = backend(rows=4, seed=1)
    failed = [found for found in answers(pushed, requests) if isinstance(found, Failure)]
    assert failed
    assert all("set backend.max_num_seqs lower" in str(found.error) for found in failed)


def test_stop_strings_eos_and_a_full_text_end_it_as_in_the_tree(
    backend: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    prompt = prompts_of(loaded)[0]
    (free,) = answers(
        backend(), [Request(prompt, 0, strategy_of(loaded, ends=False, do_sample=True, max_new_tokens=20))]
    )
    stop, eos = free.steps.token[6].strip() or free.steps.token[6], free.token_ids[9]
    strategies = [
        strategy_of(loaded, ends=False, do_sample=True, stop_strings=(stop,)),
        dataclasses.replace(strategy_of(loaded, do_sample=True), eos_token_ids=(eos,)),
        strategy_of(loaded, ends=False, do_sample=True),
    ]
    requests = [Request(prompt, 0, one) for one in strategies]
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    found = answers(backend(seed=4), requests)
    for one, other in zip(found, expected, strict=True):
        equal(one, other)
    assert [one.finish_reason for one in found] == ["stop_string", "eos", "length"]


def test_a_strategy_that_fails_does_not_disturb_the_others(
    backend: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    good = strategy_of(loaded, do_sample=True, max_new_tokens=6)
    bad = strategy_of(loaded, max_new_tokens=6)
    planned = planned_processors([f"{OWN}:fails"])
    bad = dataclasses.replace(bad, effective={**bad.effective, **planned.fields})
    long = strategy_of(loaded, max_new_tokens=500)
    prompt = prompts_of(loaded)[1]
    requests = [Request(prompt, 0, one) for one in (bad, good, long, good)]
    found = answers(backend(), requests)
    assert "fails raised" in str(found[0].error)
    assert "set backend.max_model_len=" in str(found[2].error)
    expected = decode_tree(loaded, [requests[1]], Detokenizer(loaded.tokenizer))
    equal(found[1], expected[0])
    equal(found[3], expected[0])


def test_workers_elsewhere_choose_from_what_a_request_carries(
    monkeypatch: pytest.MonkeyPatch, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    install(monkeypatch)
    from harness.backends.vllm.runner_v1 import ProcessorV1

    loaded = loaded_model("llama")
    model = Model(name="llama", id=str(loaded.files.folder))
    chosen = [{"do_sample": True, "mirostat_mode": 2}, {"repetition_penalty": 1.3}]
    strategies = [strategy_of(loaded, max_new_tokens=6, **fields) for fields in chosen]
    requests = [Request(prompt, 0, one) for one in strategies for prompt in prompts_of(loaded)[:3]]
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    engine = FakeEngine(loaded.model, ProcessorV1(None, "cpu", False), 4, 2)
    more = {MODEL: (model, loaded.files, loaded.dtype)}
    copies = pickle.loads(pickle.dumps(requests))
    params = [chosen_by_processor(n, one, None, **more, **{REQUEST: one}) for n, one in enumerate(copies)]
    outputs = Outputs(requests, Detokenizer(loaded.tokenizer))
    run_requests(engine, [one.prompt.ids for one in requests], params, outputs.collect)
    assert [tuple(text.tokens) for text in outputs.texts] == [one.token_ids for one in expected]
    monkeypatch.setattr("harness.decoding.processors.Processors.__call__", None)
    with pytest.raises(StrategyError, match="not callable"):
        run_requests(engine, [one.prompt.ids for one in requests], params, outputs.collect)


def test_a_lack_of_memory_is_no_strategys_fault(
    backend: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("harness.decoding.processors.Processors.__call__", full)
    request = Request(prompts_of(loaded)[0], 0, strategy_of(loaded, repetition_penalty=1.3))
    with pytest.raises(HarnessError, match=r"set backend.gpu_memory_utilization or backend.max_num_seqs"):
        answers(backend(), [request])


def test_another_token_than_the_one_that_was_left_is_noticed(
    backend: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")
    one = backend()
    request = Request(prompts_of(loaded)[0], 0, strategy_of(loaded, max_new_tokens=4))
    step = one._opened.engine.step

    def other() -> Any:
        outputs = step()
        for output in outputs:
            output.outputs[0].token_ids[0] ^= 1
        return outputs

    monkeypatch.setattr(one._opened.engine, "step", other)
    with pytest.raises(Exception, match="was the only token left; use backend=hf"):
        answers(one, [request])


def test_rows_that_are_mistaken_are_noticed_at_load(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = backend(rows=3, seed=1)

    def check() -> None:
        check_rows(one._opened, one._loaded, lambda requests: answers(one, list(requests)))

    check()
    choose = Chooser.choose
    monkeypatch.setattr(Chooser, "choose", lambda self, rows, logits: choose(self, rows, logits.flip(0)))
    with pytest.raises(HarnessError, match=r"is not what it computes .* use backend=hf, and report this"):
        check()


def test_it_is_timed_by_the_steps_of_the_engine(
    backend: Any, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    from harness.config.point import Timing

    loaded = loaded_model("llama")
    prompts = prompts_of(loaded)[:3]
    timing = Timing(name="x", prompts=3, repeats=2, warmup=1, batch_size=2, new_tokens=4)
    mirostat = strategy_of(loaded, do_sample=True, mirostat_mode=2)
    found = backend().time([Request(p, 0, mirostat) for p in prompts], timing, SILENT)
    assert [(one.prompt_id, one.repeat, one.batch_size) for one in found] == [
        ("p0,p1", 0, 2),
        ("p0,p1", 1, 2),
        ("p2", 0, 1),
        ("p2", 1, 1),
    ]
    for one in found:
        assert one.output_tokens == 4
        assert len(one.itl_ms) == 3
        assert one.ttft_ms > 0
        assert sum(one.itl_ms) == pytest.approx(one.decode_ms)
