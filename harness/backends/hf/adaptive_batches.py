"""Batches that become smaller once the device runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


class AdaptiveBatches:
    """Decodes items in batches of `size`, which becomes smaller once the device runs out of memory."""

    def __init__(self, size: int) -> None:
        self.size = size

    def decode(self, items: Sequence[In], decode: Callable[[Sequence[In]], Sequence[Out]]) -> list[Out]:
        """Decode items; a batch that does not fit is tried again in halves, and later ones are no larger.

        Raises:
            torch.OutOfMemoryError, or the RuntimeError that a CPU raises instead: not even one item fits.
        """
        done: list[Out] = []
        while len(done) < len(items):
            batch = items[len(done) : len(done) + self.size]
            try:
                done += decode(batch)
                continue
            except RuntimeError as error:
                if not out_of_memory(error) or len(batch) == 1:
                    raise
            # Outside the handler, so that the failed attempt's tensors are not kept alive by its traceback.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.size = (len(batch) + 1) // 2
        return done


def out_of_memory(error: BaseException) -> bool:
    """Return whether the device, or the machine, ran out of memory; a CPU's allocator has no error class."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
