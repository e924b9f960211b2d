"""The tree gives what each strategy gives alone and in stock `generate`; a prefix is computed once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf.adaptive_batches import AdaptiveBatches
from harness.backends.hf.decoding_method import Work
from harness.backends.hf.self_test import tree_is_right
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.strategy_error import StrategyError
from harness.decoding.detokenizer import Detokenizer

KINDS = ("llama", "qwen2", "mistral", "gpt2")
MANY: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2, "max_new_tokens": 9},
    {"do_sample": True, "top_p": 0.9},
    {"do_sample": True, "temperature": 0.7},
    {"do_sample": True, "top_k": 5, "repetition_penalty": 1.2},
    {"do_sample": True, "min_p": 0.1, "max_new_tokens": 30},
    {"do_sample": True, "typical_p": 0.8, "seed": 3},
]

NO_MEMORY_ON_CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory")


@pytest.mark.thinned(2)
@pytest.mark.parametrize("kind", KINDS)
def test_together_equals_alone_equals_stock_generate(
    kind: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    prompts = prompts_of(loaded)
    strategies = [strategy_of(loaded, **fields) for fields in MANY]
    by_strategy = [
        [Request(prompt, sample, strategy) for prompt in prompts for sample in range(2)]
        for strategy in strategies
    ]
    requests = [request for same in by_strategy for request in same]
    work: list[Work] = []
    together = decode_tree(loaded, requests, detokenizer, on_work=work.append)
    apart = decode_tree(loaded, requests, detokenizer, share=False)
    one_by_one = [sample for same in by_strategy for sample in decode_tree(loaded, same, detokenizer)]
    stock = [stock_generate(loaded, [request], detokenizer)[0] for request in requests]
    for sample, *others in zip(together, apart, one_by_one, stock, strict=True):
        for other in others:
            assert other.token_ids == sample.token_ids
            assert other.finish_reason == sample.finish_reason
            for name, values in sample.steps.numbers().items():
                if name not in ("rank", "top_ids"):
                    torch.testing.assert_close(
                        torch.tensor(values), torch.tensor(getattr(other.steps, name)), atol=1e-4, rtol=1e-3
                    )
    (done,) = work
    assert done.tokens == sum(len(sample.token_ids) for sample in together)
    prefixes = {
        (request.prompt.id, sample.token_ids[:length])
        for request, sample in zip(requests, together, strict=True)
        for length in range(len(sample.token_ids))
    }
    assert done.rows == len(prefixes), "every distinct prefix is computed once"
    assert done.rows < 0.8 * done.tokens


def test_a_sample_does_not_depend_on_batch_or_order(
    loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    strategies = [strategy_of(loaded, **fields) for fields in MANY]
    requests = [Request(prompt, 0, strategy) for strategy in strategies for prompt in prompts_of(loaded)]

    def run(some: list[Request]) -> list[Any]:
        return [sample.token_ids for sample in decode_tree(loaded, some, detokenizer)]

    ids = run(requests)
    assert ids == run(requests[::-1])[::-1] == run(requests[:7]) + run(requests[7:])


def test_each_strategy_has_its_own_end(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    prompt = prompts_of(loaded)[0]
    free = strategy_of(loaded, max_new_tokens=25, ends=False)
    output = decode_tree(loaded, [Request(prompt, 0, free)], detokenizer)[0].output
    short = strategy_of(loaded, max_new_tokens=3, ends=False)
    stopped = strategy_of(loaded, max_new_tokens=25, ends=False, stop_strings=(output[3:6],))
    requests = [Request(prompt, 0, strategy) for strategy in (free, short, stopped)]
    samples = decode_tree(loaded, requests, detokenizer)
    assert [len(sample.token_ids) for sample in samples[:2]] == [25, 3]
    assert [sample.finish_reason for sample in samples] == ["length", "length", "stop_string"]
    assert all(len(sample.steps) == len(sample.token_ids) for sample in samples)
    found = detokenizer.output(prompt.ids, samples[2].token_ids)
    assert output.startswith(found)
    assert output[3:6] in found
    assert output[3:6] not in detokenizer.output(prompt.ids, samples[2].token_ids[:-1])


def test_a_strategy_that_fails_is_named(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.decoding.processors import Processors

    loaded = loaded_model("llama")
    bad = strategy_of(loaded, repetition_penalty=1.3)
    good = strategy_of(loaded)
    original = Processors.__call__

    def broken(self: Any, *args: Any, **more: Any) -> Any:
        if not self.neutral:
            raise ValueError("broken on purpose")
        return original(self, *args, **more)

    monkeypatch.setattr(Processors, "__call__", broken)
    requests = [Request(prompts_of(loaded)[0], 0, strategy) for strategy in (good, bad)]
    with pytest.raises(StrategyError, match="broken on purpose") as caught:
        decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    assert caught.value.strategy is bad


def test_the_self_test_accepts_caches_that_work(loaded_model: Any) -> None:
    for kind in KINDS:
        loaded = loaded_model(kind)
        assert tree_is_right(loaded, Detokenizer(loaded.tokenizer)), kind


def test_the_self_test_catches_a_cache_that_forgets(
    loaded_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.backends.hf.row_cache import RowLayer

    loaded = loaded_model("llama")
    monkeypatch.setattr(RowLayer, "move", lambda self, sources, targets: None)
    assert not tree_is_right(loaded, Detokenizer(loaded.tokenizer))


def test_rows_move_in_place() -> None:
    from transformers import DynamicCache

    from harness.backends.hf.row_cache import RowLayer, select_rows

    cache = DynamicCache()
    layer = RowLayer(rows=5, positions=6)
    cache.layers = [layer]
    states = torch.arange(3.0)[:, None, None, None].expand(3, 2, 4, 1)
    layer.update(states, -states)
    select_rows(cache, [2, 1, 0, 2, 2], "cpu")  # rows swap and split at once
    keys, values = layer.update(torch.full((5, 2, 1, 1), 9.0), torch.full((5, 2, 1, 1), 9.0))
    assert keys[:, 0, 0, 0].tolist() == [2, 1, 0, 2, 2]
    assert values[:, 1, 3, 0].tolist() == [-2, -1, 0, -2, -2]
    assert keys[:, 0, 4, 0].tolist() == [9] * 5
    cache.reorder_cache(torch.tensor([3, 4]))  # transformers' own method agrees
    keys, _ = layer.update(torch.zeros(2, 2, 1, 1), torch.zeros(2, 2, 1, 1))
    assert keys.shape == (2, 2, 6, 1)
    assert keys[:, 0, 0, 0].tolist() == [2, 2]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), NO_MEMORY_ON_CPU], ids=["gpu", "cpu"])
def test_out_of_memory_halves_down_to_one(error: RuntimeError) -> None:
    sizes = []

    def decode(items: Any) -> list[int]:
        sizes.append(len(items))
        if len(items) > 2:
            raise error
        return [item * 10 for item in items]

    batches = AdaptiveBatches(7)
    assert batches.decode(range(9), decode) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert sizes == [7, 4, 2, 2, 2, 2, 1]
    assert batches.decode(range(3), decode) == [0, 10, 20], "the smaller size is kept"
    assert sizes[-2:] == [2, 1]

    def never(items: Any) -> list[int]:
        raise error

    with pytest.raises(RuntimeError) as raised:
        AdaptiveBatches(3).decode([1, 2, 3], never)
    assert raised.value is error

    def broken(items: Any) -> list[int]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        AdaptiveBatches(3).decode([1, 2, 3], broken)
