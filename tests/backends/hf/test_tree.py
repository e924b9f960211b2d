"""The tree gives what each strategy gives alone and in stock `generate`; a beginning is computed once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.backends.hf.adaptive_batches import Pieces
from harness.backends.hf.batch import Row
from harness.backends.hf.self_test import handles
from harness.backends.hf.stock_generate import decode_rows
from harness.backends.hf.tree import StrategyError, Text, Work, decode_tree
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


@pytest.mark.parametrize("kind", KINDS)
def test_together_is_as_alone_is_as_stock_generate(
    kind: str, loaded_model: Any, prompts_of: Any, strategy_of: Any
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    prompts = prompts_of(loaded)
    strategies = [strategy_of(loaded, **fields) for fields in MANY]
    rows = [Row(prompt, sample) for prompt in prompts for sample in range(2)]
    texts = [Text(strategy, row) for strategy in strategies for row in rows]
    work: list[Work] = []
    together = decode_tree(loaded, texts, detokenizer, on_work=work.append)
    apart = decode_tree(loaded, texts, detokenizer, share=False)
    one_by_one = [
        sample
        for strategy in strategies
        for sample in decode_tree(loaded, [Text(strategy, row) for row in rows], detokenizer)
    ]
    stock = [decode_rows(loaded, strategy, [row], detokenizer)[0] for strategy in strategies for row in rows]
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
    assert done.texts == sum(len(sample.token_ids) for sample in together)
    beginnings = {
        (text.row.prompt.id, sample.token_ids[:length])
        for text, sample in zip(texts, together, strict=True)
        for length in range(len(sample.token_ids))
    }
    assert done.rows == len(beginnings), "every distinct beginning is computed once"
    assert done.rows < 0.8 * done.texts


def test_company_and_order_do_not_move_a_sample(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    strategies = [strategy_of(loaded, **fields) for fields in MANY]
    texts = [Text(strategy, Row(prompt, 0)) for strategy in strategies for prompt in prompts_of(loaded)]
    forwards = decode_tree(loaded, texts, detokenizer)
    backwards = decode_tree(loaded, texts[::-1], detokenizer)[::-1]
    halves = [sample for half in (texts[:7], texts[7:]) for sample in decode_tree(loaded, half, detokenizer)]
    ids = [sample.token_ids for sample in forwards]
    assert ids == [sample.token_ids for sample in backwards] == [sample.token_ids for sample in halves]


def test_each_strategy_has_its_own_end(loaded_model: Any, prompts_of: Any, strategy_of: Any) -> None:
    loaded = loaded_model("llama")
    detokenizer = Detokenizer(loaded.tokenizer)
    prompt = prompts_of(loaded)[0]
    free = strategy_of(loaded, max_new_tokens=25, ends=False)
    output = detokenizer.output(
        prompt.ids, decode_tree(loaded, [Text(free, Row(prompt, 0))], detokenizer)[0].token_ids
    )
    short = strategy_of(loaded, max_new_tokens=3, ends=False)
    stopped = strategy_of(loaded, max_new_tokens=25, ends=False, stop_strings=(output[3:6],))
    row = Row(prompt, 0)
    samples = decode_tree(loaded, [Text(s, row) for s in (free, short, stopped)], detokenizer)
    assert [len(sample.token_ids) for sample in samples[:2]] == [25, 3]
    assert [sample.finish_reason for sample in samples] == ["length", "length", "stop_string"]
    assert all(len(sample.steps) == len(sample.token_ids) for sample in samples)
    told = detokenizer.output(prompt.ids, samples[2].token_ids)
    assert output.startswith(told)
    assert output[3:6] in told
    assert output[3:6] not in detokenizer.output(prompt.ids, samples[2].token_ids[:-1])


def test_a_strategy_that_fails_is_named(
    loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.decoding.processors import Processors

    loaded = loaded_model("llama")
    bad = strategy_of(loaded, repetition_penalty=1.3)
    good = strategy_of(loaded)
    honest = Processors.__call__

    def broken(self: Any, *args: Any) -> Any:
        if not self.neutral:
            raise ValueError("no such luck")
        return honest(self, *args)

    monkeypatch.setattr(Processors, "__call__", broken)
    texts = [Text(strategy, Row(prompts_of(loaded)[0], 0)) for strategy in (good, bad)]
    with pytest.raises(StrategyError, match="no such luck") as caught:
        decode_tree(loaded, texts, Detokenizer(loaded.tokenizer))
    assert caught.value.strategy is bad


def test_the_self_test_vouches_for_caches_it_should(loaded_model: Any) -> None:
    for kind in KINDS:
        loaded = loaded_model(kind)
        assert handles(loaded, Detokenizer(loaded.tokenizer)), kind


def test_the_self_test_catches_a_cache_that_forgets(
    loaded_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.backends.hf.row_cache import RowLayer

    loaded = loaded_model("llama")
    monkeypatch.setattr(RowLayer, "move", lambda self, sources, targets: None)
    assert not handles(loaded, Detokenizer(loaded.tokenizer))


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
    cache.reorder_cache(torch.tensor([3, 4]))  # transformers' own way says the same
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

    pieces = Pieces(7)
    assert pieces.decode(range(9), decode) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert sizes == [7, 4, 2, 2, 2, 2, 1]
    assert pieces.decode(range(3), decode) == [0, 10, 20], "what was learned is kept"
    assert sizes[-2:] == [2, 1]

    def never(items: Any) -> list[int]:
        raise error

    with pytest.raises(RuntimeError) as raised:
        Pieces(3).decode([1, 2, 3], never)
    assert raised.value is error

    def broken(items: Any) -> list[int]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Pieces(3).decode([1, 2, 3], broken)
