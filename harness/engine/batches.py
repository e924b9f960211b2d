"""Texts are decoded a piece at a time, and in halves when the device still runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


def in_pieces(items: Sequence[In], size: int, decode: Callable[[Sequence[In]], Sequence[Out]]) -> list[Out]:
    """Decode items `size` at a time."""
    done: list[Out] = []
    for start in range(0, len(items), size):
        done += halving(items[start : start + size], decode)
    return done


def halving(items: Sequence[In], decode: Callable[[Sequence[In]], Sequence[Out]]) -> list[Out]:
    """Decode together; when the device runs out of memory, in halves, down to a single item."""
    try:
        return list(decode(items))
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
    # Outside the handler, so that the failed attempt's tensors are not kept alive by its traceback.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return halving(items[:middle], decode) + halving(items[middle:], decode)
