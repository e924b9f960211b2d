"""One forward pass, over a cache or without one, whatever this transformers calls its arguments.

From 5.24 on models take and return their keys and values as `cache`; before that, and in models with code of
their own, as `past_key_values`. Some take neither, or no `use_cache`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from harness.backends.hf.wide_head import LogitsBuffer, in_blocks


@lru_cache(maxsize=8)
def _arguments(kind: Any) -> frozenset[str]:
    return frozenset(signature(kind.forward).parameters)


def forward(model: Any, ids: Tensor, mask: Tensor, cache: Any, **arguments: Any) -> tuple[Tensor, Any]:
    """Read (R, N) more tokens; return (R, n, V) float32 logits, and the cache with these tokens added.

    `mask` is (R, length) of everything up to and with them, 0 where padded; `cache` of what was read before,
    None at the beginning; `arguments` are further ones of the model's `forward`.
    """
    name = _cache_name(model)
    output = model(input_ids=ids, attention_mask=mask, use_cache=True, **{name: cache}, **arguments)
    return output.logits.float(), output.get(name)


def forward_layers(
    model: Any, ids: Tensor, mask: Tensor, cache: Any, layers: Sequence[int], **arguments: Any
) -> tuple[Tensor, Tensor]:
    """Read more tokens as `forward` does; return (R, V) logits and (R, L, H) hidden states of the last one.

    The hidden states are those after `layers`, 0 for the embeddings, as the model returns them.
    """
    arguments |= {"use_cache": True, "output_hidden_states": True, _cache_name(model): cache}
    output = model(input_ids=ids, attention_mask=mask, **arguments)
    hidden = torch.stack([output.hidden_states[layer][:, -1] for layer in layers], dim=1)
    return output.logits[:, -1].float(), hidden


@dataclass(frozen=True)
class CachedForward:
    """The forward pass of one model over one cache, of which the outputs of the last position are kept.

    Attributes:
        layers: whose hidden states are wanted, 0 for the embeddings.
        buffer: memory of the logits, on a CPU.
    """

    model: Any
    cache: Any
    layers: tuple[int, ...] = ()
    buffer: LogitsBuffer | None = None

    def __call__(self, ids: Tensor, mask: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        """Return (R, V) float32 logits of the next token, and (R, L, H) hidden states of `layers`, if any."""
        arguments = {"position_ids": positions, "logits_to_keep": 1}
        with in_blocks(self.model, self.buffer):
            if self.layers:
                return forward_layers(self.model, ids, mask, self.cache, self.layers, **arguments)
            logits, _ = forward(self.model, ids, mask, self.cache, **arguments)
        return (logits[:, -1],)


def forward_hidden(
    model: Any, ids: Tensor, mask: Tensor, cache: Any, **arguments: Any
) -> tuple[Tensor, Tensor]:
    """Read (R, N) more tokens as `forward` does; return (R, V) logits of the last, and last hidden states.

    The hidden states, (R, N, H), are those that the output head reads, of all N tokens.
    """
    arguments |= {"use_cache": True, "output_hidden_states": True, _cache_name(model): cache}
    output = model(input_ids=ids, attention_mask=mask, **arguments)
    return output.logits[:, -1].float(), output.hidden_states[-1]


def _cache_name(model: Any) -> str:
    return "cache" if "cache" in _arguments(model.__class__) else "past_key_values"


def read_texts(model: Any, ids: Tensor, keep: int = 0) -> Tensor:
    """Read (R, N) whole texts without a cache; return the logits as the model gives them, (R, N, V).

    Only those of the last `keep` positions where that is more than 0 and the model can.
    """
    options: dict[str, Any] = {"use_cache": False, "logits_to_keep": keep}
    known = _arguments(model.__class__)
    options = {name: value for name, value in options.items() if name in known}
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), **options).logits


def read_hidden(model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Read (R, N) whole texts without a cache; return what `forward_hidden` does."""
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in _arguments(model.__class__) else {}
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, **options)
    return output.logits[:, -1].float(), output.hidden_states[-1]
