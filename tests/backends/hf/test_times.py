"""When samples started, had their first token and ended: in order, and correct for each sample."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness.backends.backend import Request
from harness.backends.hf.beams import beam_search
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.decoding.detokenizer import Detokenizer

RUNS = [(decode_tree, {}), (stock_generate, {"do_sample": True}), (beam_search, {"num_beams": 3})]


@pytest.mark.parametrize(("run", "fields"), RUNS, ids=["tree", "generate", "beams"])
def test_times_are_those_of_the_steps(
    run: Any, fields: dict[str, Any], loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    strategy = strategy_of(loaded, ends=False, max_new_tokens=6, **fields)
    requests = [Request(prompt, 0, strategy) for prompt in prompts_of(loaded)[:3]]
    seen: list[float] = []

    def on_step(_: int) -> None:
        seen.append(time.time())
        time.sleep(0.02)

    before = time.time()
    samples = run(loaded, requests, Detokenizer(loaded.tokenizer), on_step=on_step)
    after = time.time()
    assert len(seen) == 6
    for sample in samples:
        times = sample.times
        assert times.batch == 3
        assert before - 1e-3 <= times.started < times.first_token < times.ended <= after + 1e-3
        assert times.first_token == pytest.approx(seen[0], abs=0.015)
        assert times.ended == pytest.approx(seen[-1], abs=0.015 if run is not beam_search else 0.1)
        assert times.ended - times.first_token >= 5 * 0.02


def test_a_shorter_sample_ends_earlier(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    prompt = prompts_of(loaded)[0]
    short, long = (strategy_of(loaded, ends=False, max_new_tokens=tokens) for tokens in (2, 7))
    first, second = decode_tree(
        loaded,
        [Request(prompt, 0, short), Request(prompt, 0, long)],
        Detokenizer(loaded.tokenizer),
        on_step=lambda _: time.sleep(0.01),
    )
    assert (first.times.started, first.times.first_token) == (second.times.started, second.times.first_token)
    assert second.times.ended - first.times.ended >= 5 * 0.01
    request = Request(prompt, 0, strategy_of(loaded, max_new_tokens=1))
    (single,) = decode_tree(loaded, [request], Detokenizer(loaded.tokenizer))
    assert single.times.first_token == single.times.ended
    assert single.times.batch == 1


def test_rows_of_generate_end_with_their_own_last_token(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    hot = strategy_of(loaded, do_sample=True, temperature=3.0, max_new_tokens=40)
    requests = [Request(prompts_of(loaded)[0], sample, hot) for sample in range(6)]
    samples = stock_generate(loaded, requests, Detokenizer(loaded.tokenizer))
    by_length = sorted(samples, key=lambda sample: len(sample.token_ids))
    ends = [sample.times.ended for sample in by_length]
    assert ends == sorted(ends)


def test_the_clock_never_goes_back(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")
    request = Request(prompts_of(loaded)[0], 0, strategy_of(loaded, max_new_tokens=4))
    clock = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    (sample,) = decode_tree(loaded, [request], Detokenizer(loaded.tokenizer))
    assert sample.times.started < sample.times.first_token <= sample.times.ended
