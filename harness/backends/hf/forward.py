"""One forward pass over a cache, whatever this transformers calls its argument.

From 5.24 on models take and return their keys and values as `cache`; before that, and in models with code of
their own, as `past_key_values`.
"""

from __future__ import annotations

from functools import lru_cache
from inspect import signature
from typing import Any

from torch import Tensor


@lru_cache(maxsize=8)
def _cache_name(kind: type) -> str:
    return "cache" if "cache" in signature(kind.forward).parameters else "past_key_values"  # type: ignore[attr-defined]


def forward(model: Any, ids: Tensor, mask: Tensor, cache: Any, **arguments: Any) -> tuple[Tensor, Any]:
    """Read (R, N) more tokens; return (R, n, V) float32 logits, and the cache with these tokens added.

    `mask` is (R, length) of everything up to and with them, 0 where padded; `cache` of what was read before,
    None at the beginning; `arguments` are further ones of the model's `forward`.
    """
    name = _cache_name(type(model))  # type: ignore[arg-type]
    output = model(input_ids=ids, attention_mask=mask, use_cache=True, **{name: cache}, **arguments)
    return output.logits.float(), output.get(name)
