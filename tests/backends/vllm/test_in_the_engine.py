"""vLLM's engine itself: prompts read in parts, texts pushed out, company, its own sampler, two processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from small_engines import TEXTS, opened

from harness.backends.backend import Failure, Request
from harness.backends.hf.tree import decode_tree
from harness.decoding.detokenizer import Detokenizer
from harness.progress import SILENT
from harness.prompts.prompt import Prompt

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

STRATEGIES: tuple[dict[str, Any], ...] = (
    {},
    {"do_sample": True, "top_p": 0.9},
    {"do_sample": True, "mirostat_mode": 2},
    {"do_sample": True, "repetition_penalty": 1.3, "temperature": 1.3},
)
BLOCK = 128
"""Tokens of a block of the cache on a CPU."""


@pytest.fixture(scope="module")
def loaded(loaded_model: Any) -> Any:
    pytest.importorskip("vllm")
    return loaded_model("fable_tiny")


@pytest.fixture(scope="module")
def folder() -> str:
    from harness.models.fable import fable_folder

    return str(fable_folder("fable_tiny"))


@pytest.fixture(scope="module")
def cramped(loaded: Any, folder: str) -> Iterator[Any]:
    """A backend with room for seven blocks, which reads 40 tokens a step."""
    from harness.backends.vllm import vllm_engine
    from harness.models.memory import kv_cache_bytes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            vllm_engine, "_cpu_cache_bytes", lambda files, *_: 7 * kv_cache_bytes(files.config, BLOCK, 4)
        )
        with opened(folder, max_num_seqs=6) as backend:
            backend._opened.engine.engine_core.engine_core.scheduler.max_num_scheduled_tokens = 40
            yield backend


def requests_of(loaded: Any, strategy_of: Any, tokens: int) -> list[Request]:
    """Prompts that nearly fill a block, one of them longer than that, for all strategies."""
    story = loaded.tokenizer(" ".join(TEXTS) * 4)["input_ids"]
    lengths = (120, 97, 126, 40, 150)
    prompts = [Prompt(f"p{n}", "", tuple(story[n : n + length])) for n, length in enumerate(lengths)]
    strategies = [strategy_of(loaded, max_new_tokens=tokens, ends=False, **fields) for fields in STRATEGIES]
    return [Request(prompt, 0, one) for one in strategies for prompt in prompts]


def equal(found: Any, expected: Any) -> None:
    assert not isinstance(found, Failure), found.error
    assert found.token_ids == expected.token_ids
    assert found.output == expected.output
    for name, values in found.steps.numbers().items():
        np.testing.assert_allclose(values, expected.steps.numbers()[name], rtol=1e-3, atol=1e-3)


def test_prompts_read_in_parts_and_texts_pushed_out(
    cramped: Any, loaded: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.backends.steps.recorder import Recorder

    dropped: list[int] = []
    drop = Recorder.drop
    monkeypatch.setattr(Recorder, "drop", lambda self, some: (dropped.extend(some), drop(self, some))[1])
    scheduler = cramped._opened.engine.engine_core.engine_core.scheduler
    pushed = []
    preempt = type(scheduler)._preempt_request
    monkeypatch.setattr(
        type(scheduler),
        "_preempt_request",
        lambda self, one, *a, **k: (pushed.append(one), preempt(self, one, *a, **k))[1],
    )
    requests = requests_of(loaded, strategy_of, 20)
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    for found, wanted in zip(cramped.generate(requests, SILENT), expected, strict=True):
        equal(found, wanted)
    assert dropped, "no prompt was read in parts"
    assert pushed, "no text was pushed out"


def test_company_and_order_change_nothing(cramped: Any, loaded: Any, strategy_of: Any) -> None:
    requests = requests_of(loaded, strategy_of, 10)
    together = list(cramped.generate(requests, SILENT))
    backwards = list(cramped.generate(requests[::-1], SILENT))[::-1]
    alone = [next(iter(cramped.generate([request], SILENT))) for request in requests[::4]]
    for one, other in zip(together, backwards, strict=True):
        equal(one, other)
    for one, other in zip(alone, together[::4], strict=True):
        equal(one, other)


def test_stop_strings_and_eos(cramped: Any, loaded: Any, strategy_of: Any) -> None:
    prompt = Prompt("p", TEXTS[0], tuple(loaded.tokenizer(TEXTS[0])["input_ids"]))
    strategies = [
        strategy_of(loaded, max_new_tokens=60, stop_strings=(" the h", "and"), do_sample=True),
        strategy_of(loaded, max_new_tokens=60, stop_strings=(".",)),
        strategy_of(loaded, max_new_tokens=90, do_sample=True, temperature=1.5),
        strategy_of(loaded, max_new_tokens=5, ends=False),
    ]
    requests = [Request(prompt, sample, one) for one in strategies for sample in range(4)]
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    found = list(cramped.generate(requests, SILENT))
    for one, other in zip(found, expected, strict=True):
        equal(one, other)
    assert [one.finish_reason for one in found] == [one.finish_reason for one in expected]
    assert {"stop_string", "eos", "length"} == {one.finish_reason for one in found}


def test_its_own_sampler(loaded: Any, folder: str, strategy_of: Any) -> None:
    prompts = [Prompt(t, t, tuple(loaded.tokenizer(t)["input_ids"])) for t in TEXTS]
    greedy = strategy_of(loaded, max_new_tokens=12)
    first = strategy_of(loaded, max_new_tokens=12, do_sample=True, temperature=1.5, top_k=1)
    hot = strategy_of(loaded, max_new_tokens=12, do_sample=True, temperature=1.5)
    expected = decode_tree(loaded, [Request(p, 0, greedy) for p in prompts], Detokenizer(loaded.tokenizer))
    with opened(folder, native=True, max_num_seqs=8) as backend:
        requests = [Request(p, 0, one) for one in (greedy, first, hot, hot) for p in prompts]
        found = list(backend.generate(requests, SILENT))
        again = list(backend.generate(requests, SILENT))
    assert not backend.capabilities.shared_noise
    for number, sample in enumerate(found):
        assert sample.token_ids == again[number].token_ids, "its seeds come from the requests"
        assert sample.steps.warped_logprob is None
        assert sample.steps.entropy is None
    for sample, wanted in zip(found[:16], [*expected, *expected], strict=True):
        assert sample.token_ids == wanted.token_ids
        for name in ("logprob", "top_logprobs", "rank"):
            gap = np.abs(getattr(sample.steps, name) - getattr(wanted.steps, name))
            assert gap.max() < 1e-3, name
        assert np.array_equal(sample.steps.top_ids, wanted.steps.top_ids)
    assert [one.token_ids for one in found[16:24]] != [one.token_ids for one in expected]


def test_workers_in_other_processes_choose_the_same(loaded: Any, strategy_of: Any) -> None:
    """In a process of its own, since its workers are started by the file that is run."""
    import subprocess
    import sys
    from pathlib import Path

    script = Path(__file__).with_name("two_workers.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert "equal 24 of 24; entropy False; logprobs within 1e-3" in done.stdout, done.stderr[-3000:]
