"""The tree gives what each strategy gives alone, what stock `generate` gives, and computes a beginning once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.decoding.text import Detokenizer
from harness.engine.batch import Row
from harness.engine.sampling import decode_rows
from harness.engine.tree import Text, Work, decode_tree

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
    stock = [
        decode_rows(loaded, strategy, [row], detokenizer)[0] for strategy in strategies for row in rows
    ]
    for sample, *others in zip(together, apart, one_by_one, stock, strict=True):
        for other in others:
            assert other.token_ids == sample.token_ids
            assert other.finish_reason == sample.finish_reason
            for name, values in vars(sample.steps).items():
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
