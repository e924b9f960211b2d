"""The test models themselves: properties that other tests rely on."""

from __future__ import annotations

from typing import Any

import pytest


# AutoTokenizer rebuilds a Qwen2 checkpoint's tokenizer as byte-level, whatever its file says.
@pytest.mark.parametrize(
    ("kind", "bpe"),
    [
        (kind, bpe)
        for kind in ("llama", "qwen2", "mistral", "gpt2")
        for bpe in ("bytes", "metaspace")
        if (kind, bpe) != ("qwen2", "metaspace")
    ],
)
def test_next_token_entropy_is_that_of_a_trained_model(small_model: Any, kind: str, bpe: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = small_model(kind, bpe=bpe)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    text = "It was a dark and stormy café"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert ids[0, 0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == text
    logp = torch.log_softmax(model(ids).logits.detach().double(), -1)
    entropy = -(logp.exp() * logp).sum(-1).mean()
    assert 0.8 < entropy < 2.3
    assert 200 < model.config.vocab_size < 600
