"""Attention of rows that share a prompt: its keys and values are stored once, and read once a step.

Rows of a tree that grow from one prompt (strategies, samples) would each have a copy of its keys and values,
and read all of it at every step, with the padding before it; with prompts of a thousand tokens that takes
longer than the weights, and with hundreds of rows short prompts are a tenth of a step. Here
a prompt's part is one matrix product for all of its rows, a row's own tokens are another, and the two are
joined by their log-sum-exp, as in Hydragen (Juravsky et al. 2024, arXiv:2402.05099): the same sums in
another order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from harness.backends.backend import Request
from harness.backends.hf.row_cache import RowLayer
from harness.decoding.upload import on_device

_NAME = "harness_shared_prefix"
_MIN_REPEATED = 1 << 11
"""Tokens of prompts that a step would read again for other rows, below which nothing is won on a CPU."""
_MIN_REPEATED_ON_GPU = 1 << 15
"""The same on a GPU, by what reading them takes and what a dozen more kernels a layer take to launch."""
_UNKNOWN = ("softcap", "s_aux", "position_bias", "sliding_window")
"""Arguments of attention that change its scores, and that are left to the model's own implementation."""


class UnsharedAttentionError(Exception):
    """A model's attention cannot be computed over shared prompts; the self-test of it finds out."""


class PrefixedLayer(RowLayer):
    """A layer whose rows begin with prompts that several of them share; the buffers hold what follows.

    Attributes:
        prompt_keys, prompt_values: (P, heads, length, width), of the prompts.
    """

    def __init__(self, prompts: RowLayer, rows: int, positions: int) -> None:
        """Take the prompts from a layer that has read them; `positions` may follow, in `rows` rows."""
        super().__init__(rows, positions)
        read = prompts.keys, prompts.values
        self.prompt_keys, self.prompt_values = (one for one in read if one is not None)

    def get_seq_length(self) -> int:
        """Return the number of positions written, those of the prompts included."""
        return self.prompt_keys.shape[-2] + super().get_seq_length()


@dataclass(frozen=True)
class PromptRows:
    """Which rows have which prompt.

    Attributes:
        rows: (P, n) the rows of each prompt; some row fills up what is left.
        places: (R,) where each row is among them, counted through.
    """

    rows: Tensor
    places: Tensor

    @classmethod
    def of(cls, prompts: Sequence[int], count: int, device: str) -> PromptRows:
        """Return it for the prompts (R,) of rows, of which there are `count`."""
        rows: list[list[int]] = [[] for _ in range(count)]
        for row, prompt in enumerate(prompts):
            rows[prompt].append(row)
        most = max(map(len, rows))
        seen = [0] * count
        places = []
        for prompt in prompts:
            places.append(prompt * most + seen[prompt])
            seen[prompt] += 1
        filled = [own + [(own or [0])[0]] * (most - len(own)) for own in rows]
        return cls(on_device(filled, device), on_device(places, device))


_step: ContextVar[tuple[DynamicCache, PromptRows]] = ContextVar("step over shared prompts")


def pays(requests: Sequence[Request], device: str) -> bool:
    """Return whether prompts are long enough, and shared by enough requests, for this to be faster."""
    of_prompts = Counter(request.prompt.ids for request in requests)
    repeated = sum((count - 1) * len(ids) for ids, count in of_prompts.items())
    return repeated >= (_MIN_REPEATED if device == "cpu" else _MIN_REPEATED_ON_GPU)


def can_share(model: Any, cache: DynamicCache) -> bool:
    """Return whether all of a cache is in row layers, of a model that uses sdpa."""
    return model.config._attn_implementation == "sdpa" and all(
        type(layer) is RowLayer for layer in cache.layers
    )


def share_prompts(cache: DynamicCache, rows: int, positions: int) -> None:
    """Let up to `rows` rows, and `positions` after the prompts, follow what a cache has read."""
    cache.layers = [PrefixedLayer(layer, rows, positions) for layer in cache.layers]  # type: ignore[arg-type]


@contextmanager
def attention_over(model: Any, cache: DynamicCache, rows: PromptRows) -> Iterator[None]:
    """Let the model's next forward pass, a step of one token a row, attend over shared prompts."""
    config = model.config
    before = config._attn_implementation
    token = _step.set((cache, rows))
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _step.reset(token)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """Return (R, 1, heads, width) attention of one query a row (R, heads, 1, width), as transformers asks.

    `key` and `value` are those of the rows' own tokens, (R, groups, length, width), which all see.

    Raises:
        UnsharedAttentionError: this model's attention is more than a softmax over scaled products.
    """
    cache, prompts = _step.get()
    layer = cache.layers[module.layer_idx]
    if (
        not isinstance(layer, PrefixedLayer)
        or key is not layer.keys
        or value is not layer.values
        or query.shape[2] != 1
        or any(arguments.get(name) is not None for name in _UNKNOWN)
    ):
        raise UnsharedAttentionError("this attention is not a softmax over scaled products with the cache")
    rows, heads, _, width = query.shape
    groups = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    queries = query.reshape(rows, groups, heads // groups, width)
    own, own_total = _attended(queries, key, value, scale, None)
    count, most = prompts.rows.shape
    gathered = queries[prompts.rows.flatten()].view(count, most, groups, -1, width).transpose(1, 2)
    mask = None
    if attention_mask is not None:  # of a prompt, the same for all of its rows
        mask = attention_mask[prompts.rows[:, 0], :, :, : layer.prompt_keys.shape[-2]]
    shared, shared_total = _attended(
        gathered.reshape(count, groups, -1, width), layer.prompt_keys, layer.prompt_values, scale, mask
    )

    def by_row(values: Tensor) -> Tensor:
        values = values.view(count, groups, most, heads // groups, -1).transpose(1, 2)
        return values.reshape(count * most, groups, heads // groups, -1)[prompts.places]

    share = torch.sigmoid(by_row(shared_total) - own_total).to(query.dtype)
    joined = torch.lerp(own, by_row(shared), share)
    return joined.reshape(rows, 1, heads, width), None


def _attended(
    queries: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return (B, G, N, width) attention of N queries a key head, and the log of the sum of its weights."""
    scores = (queries @ keys.transpose(-1, -2)).float().mul_(scale)
    if mask is not None:
        scores = scores.masked_fill_(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    total = scores.logsumexp(-1, keepdim=True)
    return scores.sub_(total).exp_().to(values.dtype) @ values, total


AttentionInterface.register(_NAME, attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
