"""When samples began, had their first token and ended: in order, true to the clock, and each sample's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.backends.hf.batch import Row
from harness.backends.hf.beams import search
from harness.backends.hf.stock_generate import decode_rows
from harness.backends.hf.tree import Text, decode_tree
from harness.decoding.detokenizer import Detokenizer
from harness.store.records import Sample


def tree(loaded: Any, strategy: Any, rows: list[Row], on_step: Callable[[int], None]) -> list[Sample]:
    texts = [Text(strategy, row) for row in rows]
    return decode_tree(loaded, texts, Detokenizer(loaded.tokenizer), on_step=on_step)


def rows_of(loaded: Any, strategy: Any, rows: list[Row], on_step: Callable[[int], None]) -> list[Sample]:
    return decode_rows(loaded, strategy, rows, Detokenizer(loaded.tokenizer), on_step=on_step)


def beams(loaded: Any, strategy: Any, rows: list[Row], on_step: Callable[[int], None]) -> list[Sample]:
    return search(loaded, strategy, rows, Detokenizer(loaded.tokenizer), on_step=on_step)


RUNS = [(tree, {}), (rows_of, {"do_sample": True}), (beams, {"num_beams": 3})]


@pytest.mark.parametrize(("run", "fields"), RUNS, ids=["tree", "generate", "beams"])
def test_times_are_those_of_the_steps(
    run: Any, fields: dict[str, Any], loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    rows = [Row(prompt, 0) for prompt in prompts_of(loaded)[:3]]
    seen: list[float] = []

    def on_step(_: int) -> None:
        seen.append(time.time())
        time.sleep(0.02)

    before = time.time()
    samples = run(loaded, strategy_of(loaded, ends=False, max_new_tokens=6, **fields), rows, on_step)
    after = time.time()
    assert len(seen) == 6
    for sample in samples:
        times = sample.times
        assert times.batch == 3
        assert before - 1e-3 <= times.started < times.first_token < times.ended <= after + 1e-3
        assert times.first_token == pytest.approx(seen[0], abs=0.015)
        assert times.ended == pytest.approx(seen[-1], abs=0.015 if run is not beams else 0.1)
        assert times.ended - times.first_token >= 5 * 0.02


def test_what_ends_early_has_ended_early(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    row = Row(prompts_of(loaded)[0], 0)
    short, long = (strategy_of(loaded, ends=False, max_new_tokens=tokens) for tokens in (2, 7))
    first, second = decode_tree(
        loaded,
        [Text(short, row), Text(long, row)],
        Detokenizer(loaded.tokenizer),
        on_step=lambda _: time.sleep(0.01),
    )
    assert (first.times.started, first.times.first_token) == (second.times.started, second.times.first_token)
    assert second.times.ended - first.times.ended >= 5 * 0.01
    (single,) = decode_tree(
        loaded, [Text(strategy_of(loaded, max_new_tokens=1), row)], Detokenizer(loaded.tokenizer)
    )
    assert single.times.first_token == single.times.ended
    assert single.times.batch == 1


def test_rows_of_generate_end_with_their_own_last_token(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    rows = [Row(prompts_of(loaded)[0], sample) for sample in range(6)]
    hot = strategy_of(loaded, do_sample=True, temperature=3.0, max_new_tokens=40)
    samples = decode_rows(loaded, hot, rows, Detokenizer(loaded.tokenizer))
    by_length = sorted(samples, key=lambda sample: len(sample.token_ids))
    ends = [sample.times.ended for sample in by_length]
    assert ends == sorted(ends)


def test_the_clock_never_goes_back(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("llama")
    row, strategy = Row(prompts_of(loaded)[0], 0), strategy_of(loaded, max_new_tokens=4)
    clock = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    (sample,) = decode_tree(loaded, [Text(strategy, row)], Detokenizer(loaded.tokenizer))
    assert sample.times.started < sample.times.first_token <= sample.times.ended
