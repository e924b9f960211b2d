"""How many texts are decoded at once: by estimate, and halved when the device still runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

from harness.models.memory import available_bytes

if TYPE_CHECKING:
    from harness.models.load import LoadedModel

# More rows than this no longer make a step cheaper a row.
_MOST_ROWS = {"cuda": 512, "mps": 128, "cpu": 128}
# Copies of a row's float32 logits alive at once: processors, both distributions, noise.
_LOGITS_COPIES = 12
_SHARE_OF_FREE = 0.6

In = TypeVar("In")
Out = TypeVar("Out")


def rows_that_fit(loaded: LoadedModel, cache_bytes: int, beams: int, wanted: Literal["auto"] | int) -> int:
    """How many texts, each of `beams` rows with caches of `cache_bytes`, to decode at once; at least one."""
    if wanted != "auto":
        return wanted
    vocabulary = loaded.model.config.get_text_config().vocab_size
    # Twice the cache: a layer that is not in a buffer is concatenated with each step's keys and values.
    row = beams * (2 * cache_bytes + vocabulary * 4 * _LOGITS_COPIES)
    fit = int(available_bytes(loaded.device) * _SHARE_OF_FREE / max(row, 1))
    return max(1, min(fit, _MOST_ROWS[loaded.device.partition(":")[0]] // beams or 1))


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
