"""How many requests a transformers model decodes at once: one estimate for the plan and for the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.backends.hf.methods import method_of
from harness.models.caches import quantized_cache_bytes
from harness.models.memory import kv_cache_bytes

if TYPE_CHECKING:
    from harness.backends.backend import Request
    from harness.models.model_files import ModelFiles

_MOST_ROWS = {"cuda": 512, "mps": 128, "cpu": 512}
"""Of requests; beyond this many a step does not become cheaper per token.

On a CPU, where eight strategies need 0.6 rows a request, 512 take 8 % less time a token than 256, and those
15 % less than 128.
"""

_LOGITS_COPIES = 12
"""Copies of a row's float32 logits alive at once: processors, both distributions, noise."""

_SHARE_OF_FREE = 0.6


def request_rows(request: Request) -> int:
    """Return the decoder rows that a request needs, as many as it has beams, two under guidance."""
    strategy = request.strategy
    return method_of(strategy.effective, strategy.cache).rows_per_request(strategy.effective)


def request_cache_bytes(request: Request, files: ModelFiles, value_bytes: int) -> int:
    """Return the most that a request's KV cache takes, all its rows included, at so many bytes a value."""
    longest = max(len(request.prompt.ids), len(request.second_prompt))
    tokens = longest + request.strategy.max_new_tokens
    if request.strategy.cache is not None:
        return quantized_cache_bytes(files.text_config, tokens, value_bytes, request.strategy.cache)
    return request_rows(request) * kv_cache_bytes(files.config, tokens, value_bytes)


def batch_rows(
    requests: Sequence[Request],
    files: ModelFiles,
    device: str,
    free_bytes: int,
    value_bytes: int,
    cache_share: float = 1.0,
) -> int:
    """Return how many requests like these fit the device at once, at least 1.

    Args:
        requests: the longest of each strategy that decodes together.
        files: the checkpoint.
        device: `cuda:0`, `mps`, `cpu`, or a kind of device.
        free_bytes: memory of the device beside the weights; of several, that of the fullest.
        value_bytes: bytes a value of the cache.
        cache_share: the most of the cache that one of several devices holds, 0 to 1.
    """
    needed = working_bytes(requests, files, value_bytes, cache_share)
    most = max(1, _MOST_ROWS[device.partition(":")[0]] // max(map(request_rows, requests)))
    return max(1, min(int(free_bytes * _SHARE_OF_FREE / max(needed, 1)), most))


def working_bytes(
    requests: Sequence[Request], files: ModelFiles, value_bytes: int, cache_share: float = 1.0
) -> float:
    """Return the memory beside the weights that a request of a batch like these takes: cache and logits."""
    rows = max(map(request_rows, requests))
    cache = max(request_cache_bytes(request, files, value_bytes) for request in requests)
    # Twice the cache: a layer that is not in a preallocated buffer is concatenated with each step's states.
    return 2 * cache * cache_share + rows * (files.vocab_size or 0) * 4 * _LOGITS_COPIES
