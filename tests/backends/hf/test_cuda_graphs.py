"""Steps through static buffers give what steps over growing tensors give; here without CUDA graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf.cuda_graphs import CudaGraphRunner, bucket_size, capturable
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
    assert [bucket_size(rows, 40) for rows in (1, 2, 3, 5, 8, 9, 33, 40)] == [1, 2, 4, 8, 8, 16, 40, 40]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral"])
def test_the_same_samples(
    kind: str, loaded_model: Any, prompts_of: Any, strategy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model(kind)
    detokenizer = Detokenizer(loaded.tokenizer)
    strategies = [strategy_of(loaded, **fields) for fields in STRATEGIES]
    requests = [Request(prompt, 0, strategy) for strategy in strategies for prompt in prompts_of(loaded)]
    expected = decode_tree(loaded, requests, detokenizer)
    buckets: list[int] = []
    run = CudaGraphRunner._run

    def counted(self: CudaGraphRunner, bucket: int) -> torch.Tensor:
        buckets.append(bucket)
        return run(self, bucket)

    monkeypatch.setattr(CudaGraphRunner, "_run", counted)
    found = decode_tree(loaded, requests, detokenizer, capture=True)
    for one, other in zip(expected, found, strict=True):
        assert one.token_ids == other.token_ids
        for name in ("logprob", "warped_logprob", "entropy"):
            torch.testing.assert_close(
                torch.tensor(getattr(one.steps, name)),
                torch.tensor(getattr(other.steps, name)),
                atol=1e-4,
                rtol=1e-4,
            )
    # Mistral's sliding windows are not in buffers: its steps run as usual.
    assert (len(set(buckets)) > 1) == (kind != "mistral")
    assert all(bucket & (bucket - 1) == 0 or bucket == len(requests) for bucket in buckets)


def test_only_plain_models_on_cuda_are_captured(loaded_model: Any) -> None:
    assert not capturable(loaded_model("llama")), "there is nothing to capture on a CPU"
