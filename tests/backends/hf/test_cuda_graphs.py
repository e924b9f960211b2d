"""Steps through static buffers give what steps over growing tensors give; here without CUDA graphs."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf import cuda_graphs, self_test, static_cache
from harness.backends.hf.cuda_graphs import StaticSteps, StepRunner, bucket_positions, bucket_rows, capturable
from harness.backends.hf.static_cache import LayerBuffers, StaticCache
from harness.backends.hf.tree import decode_tree
from harness.decoding.detokenizer import Detokenizer

STRATEGIES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3, "max_new_tokens": 9},
    {"do_sample": True, "top_p": 0.9},
    {"do_sample": True, "temperature": 1.5},
    {"do_sample": True, "top_k": 5, "max_new_tokens": 30},
]


def test_buckets() -> None:
    rows = (1, 2, 8, 9, 33, 64, 65, 129, 200)
    assert [bucket_rows(one, 200) for one in rows] == [1, 8, 8, 32, 64, 64, 128, 200, 200]
    assert [bucket_positions(length, 600) for length in (1, 256, 257, 512, 513)] == [256, 256, 512, 512, 600]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral"])
def test_the_same_samples(
    kind: str, loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    strategies = [strategy_of(loaded, **fields) for fields in STRATEGIES]
    requests = [Request(prompt, 0, strategy) for strategy in strategies for prompt in prompts_of(loaded)]
    expected = decode_tree(loaded, requests, detokenizer)
    monkeypatch.setattr(cuda_graphs, "_POSITIONS", 16)  # so that a text goes through several buckets
    buckets: list[tuple[int, int]] = []
    run = StepRunner._run

    def counted(self: StepRunner, rows: int, positions: int) -> tuple[torch.Tensor, ...]:
        buckets.append((rows, positions))
        return run(self, rows, positions)

    monkeypatch.setattr(StepRunner, "_run", counted)
    steps = StaticSteps()
    # Later batches have fewer rows, shorter or longer ones: in the buffers of the first, or in new ones.
    for few in (requests, requests[::-2], requests[:1]):
        found = decode_tree(loaded, few, detokenizer, static_steps=steps)
        assert_equal([expected[requests.index(request)] for request in few], found)
    # Mistral's sliding windows are not in buffers: its steps run as usual.
    for seen in zip(*buckets, strict=True):
        assert len(set(seen)) > 1
    assert bool(buckets) == (kind != "mistral")


def test_a_window_that_no_text_reaches_is_full_attention(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("mistral")
    strategies = [strategy_of(loaded, **fields) for fields in STRATEGIES]
    requests = [Request(prompt, 0, strategy) for strategy in strategies for prompt in prompts_of(loaded)]
    longest = max(len(request.prompt.ids) + request.strategy.max_new_tokens for request in requests)
    longest += -longest % 8  # as long as the buffers are made
    decode = partial(decode_tree, loaded, requests, Detokenizer(loaded.tokenizer))
    for window in (longest - 1, longest):
        monkeypatch.setattr(loaded.model.config, "sliding_window", window)
        expected, steps = decode(windows=True), StaticSteps()
        assert_equal(expected, decode())
        assert_equal(expected, decode(static_steps=steps))
        assert (steps._runner is not None) == (window == longest)


def test_the_self_test_tries_long_windows_in_both_kinds_of_cache(
    loaded_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("mistral")
    tried: list[bool] = []

    def counted(*arguments: Any, windows: bool = False, **more: Any) -> Any:
        tried.append(windows)
        return decode_tree(*arguments, windows=windows, **more)

    monkeypatch.setattr(self_test, "decode_tree", counted)
    for window, expected in ((16, [False]), (4096, [False, True])):
        monkeypatch.setattr(loaded.model.config, "sliding_window", window)
        tried.clear()
        assert self_test.tree_is_right(loaded, Detokenizer(loaded.tokenizer))
        assert tried == expected


def assert_equal(expected: list[Any], found: list[Any]) -> None:
    for one, other in zip(expected, found, strict=True):
        assert one.token_ids == other.token_ids
        for name in ("logprob", "warped_logprob", "entropy"):
            torch.testing.assert_close(
                torch.tensor(getattr(one.steps, name)),
                torch.tensor(getattr(other.steps, name)),
                atol=1e-4,
                rtol=1e-4,
            )


def test_buffers_are_kept_for_the_next_batch_that_fits(loaded_model: Any) -> None:
    loaded, steps = loaded_model("llama"), StaticSteps()
    first = steps.runner(loaded, (), 8, 60)
    assert steps.runner(loaded, (), 8, 60) is first
    assert steps.runner(loaded, (), 3, 64) is first, "positions are rounded up"
    larger = steps.runner(loaded, (), 8, 65)
    assert larger is not first
    assert steps.runner(loaded, (), 8, 20) is not larger, "a step would attend over thrice the positions"
    assert steps.runner(loaded, (1,), 8, 20) is not steps.runner(loaded, (), 8, 20)


def test_old_buffers_are_freed_before_new_ones_are_made(
    loaded_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, steps = loaded_model("llama"), StaticSteps()
    first = weakref.ref(steps.runner(loaded, (), 2, 16))
    assert first() is not None
    make = StaticCache.of

    def checked(*arguments: Any) -> StaticCache | None:
        assert first() is None
        return make(*arguments)

    monkeypatch.setattr(StaticCache, "of", checked)
    assert steps.runner(loaded, (), 4, 16) is not None


def test_rows_move_in_all_layers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in parts, where the copies would take much memory, and in layers of other shapes."""
    monkeypatch.setattr(static_cache, "_MOST_MOVED", 600)
    buffers, parents = LayerBuffers(3), [2, 1, 0, 0]
    states = [torch.randn(4, heads, 5, 6) for heads in (2, 2, 3, 2)]
    taken = [buffers.take(one, 4, 7) for one in states]
    assert len({one.untyped_storage().data_ptr() for one in taken}) == 2
    for buffer, one in zip(taken, states, strict=True):
        buffer[:, :, :5] = one
    targets = torch.tensor([0, 2, 3])
    buffers.move(torch.tensor(parents)[targets], targets, 5)
    for buffer, one in zip(taken, states, strict=True):
        assert buffer[:, :, :5].equal(one[parents])
        assert not buffer[:, :, 5:].any()


def test_nothing_of_a_batch_is_left_to_the_garbage_collector(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    """A cycle would keep its cache, and free its graphs while others are captured."""
    loaded = loaded_model("llama")
    steps = StaticSteps()
    requests = [Request(prompt, 0, strategy_of(loaded)) for prompt in prompts_of(loaded)]
    gc.collect()
    gc.disable()
    try:
        decode_tree(loaded, requests, Detokenizer(loaded.tokenizer), static_steps=steps)
        runner, cache = map(weakref.ref, (steps._runner, steps._runner.forward.cache))
        steps.release()
        assert runner() is None
        assert cache() is None
    finally:
        gc.enable()


def test_only_plain_models_on_cuda_are_captured(loaded_model: Any) -> None:
    assert not capturable(loaded_model("llama")), "there is nothing to capture on a CPU"
