"""A wide output head, multiplied in blocks of its rows where a CPU's library is slow at the whole product.

For a batch of 8 to 64 rows MKL takes up to 1.9 times as long over a head of 32,000 to 152,000 float32 rows at
once as over the same head a thousand rows at a time; the sums are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_BLOCK = 1024
_MIN_VOCABULARY = 8 * _BLOCK
"""Smaller heads are not faster in blocks."""


class LogitsBuffer:
    """Memory that the logits of each step are written into: fresh memory has to be zeroed page by page."""

    def __init__(self, rows: int) -> None:
        """Have room for so many rows once a head is multiplied."""
        self._rows = rows
        self._values: Tensor | None = None

    def take(self, rows: int, weight: Tensor) -> Tensor:
        """Return (rows, V) for the product with a (V, H) weight; what was taken before is written over."""
        if rows > self._rows:
            return weight.new_empty((rows, len(weight)))
        if self._values is None:
            self._values = weight.new_empty((self._rows, len(weight)))
        return self._values[:rows]


@contextmanager
def in_blocks(model: Any, buffer: LogitsBuffer | None = None) -> Iterator[None]:
    """Multiply the model's output head in blocks for the time, if it is a plain float32 product on a CPU.

    Other kinds of heads, and heads whose `forward` was replaced before, are left alone. With a `buffer` the
    logits of one pass last until the next one.
    """
    head = model.get_output_embeddings()
    if (
        type(head) is not nn.Linear
        or head.bias is not None
        or type(head.weight) is not nn.Parameter
        or head.weight.device.type != "cpu"
        or head.weight.dtype != torch.float32
        or head.weight.shape[0] < _MIN_VOCABULARY
        or "forward" in vars(head)
    ):
        yield
        return
    buffer = buffer or LogitsBuffer(0)
    head.forward = lambda states: _product(states, head.weight, buffer)
    try:
        yield
    finally:
        del head.forward


def _product(states: Tensor, weight: Tensor, buffer: LogitsBuffer) -> Tensor:
    """Return the (..., V) product of (..., H) states and a (V, H) weight."""
    rows = states.reshape(-1, states.shape[-1])
    product = buffer.take(len(rows), weight)
    for columns, block in zip(product.split(_BLOCK, dim=1), weight.split(_BLOCK), strict=True):
        torch.mm(rows, block.t(), out=columns)
    return product.view(*states.shape[:-1], len(weight))
