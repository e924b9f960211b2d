"""Texts are decoded a piece at a time, and in smaller ones from where the device ran out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


class Pieces:
    """Cuts what is to be decoded into pieces, and learns how large they may be.

    Attributes:
        size: items decoded at once; smaller once the device ran out of memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def decode(self, items: Sequence[In], decode: Callable[[Sequence[In]], Sequence[Out]]) -> list[Out]:
        """Decode items `size` at a time.

        A piece that does not fit is tried again in halves, down to single items, and those after it are no
        larger.

        Raises:
            torch.OutOfMemoryError, or the RuntimeError that stands for it on a CPU: not even one item fits.
        """
        done: list[Out] = []
        while len(done) < len(items):
            piece = items[len(done) : len(done) + self.size]
            try:
                done += decode(piece)
                continue
            except RuntimeError as error:
                if not out_of_memory(error) or len(piece) == 1:
                    raise
            # Outside the handler, so that the failed attempt's tensors are not kept alive by its traceback.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.size = (len(piece) + 1) // 2
        return done


def out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no memory left; the CPU's allocator has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
