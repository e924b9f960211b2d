"""A key-value cache whose rows are split and removed in place.

transformers' DynamicCache concatenates the whole cache at every step and copies it once more at every
reorder. Here a layer's keys and values are in buffers that are allocated once; a step writes one position,
and a selection of rows copies only the rows that move.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from harness.decoding.upload import on_device


class RowLayer(DynamicLayer):
    """A full-attention layer in a preallocated buffer; rows 0 to R - 1 of it are in use."""

    def __init__(self, rows: int, positions: int) -> None:
        super().__init__()
        self._rows = rows
        self._positions = positions
        self._length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the buffers, (rows, heads, positions, width), of the shape of the first states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._keys = self._buffer(key_states)
        self._values = self._buffer(value_states)
        self.keys, self.values = self._keys[:0], self._values[:0]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write new positions after the old ones; returns views of all, (R, heads, length, width)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, start, end = key_states.shape[0], self._length, self._length + key_states.shape[-2]
        self._keys[:rows, :, start:end] = key_states
        self._values[:rows, :, start:end] = value_states
        self._length = end
        self.keys, self.values = self._keys[:rows, :, :end], self._values[:rows, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of positions written."""
        return self._length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let row i be what row `beam_idx[i]` was; only rows that move are copied."""
        if self.is_initialized:
            beam_idx = beam_idx.to(self.device)
        moved = (beam_idx != torch.arange(len(beam_idx), device=beam_idx.device)).nonzero()[:, 0]
        self.select(len(beam_idx), beam_idx[moved], moved)

    def select(self, rows: int, sources: Tensor, targets: Tensor) -> None:
        """Copy the rows `sources` to the rows `targets`, and use the first `rows` rows from now on."""
        if not self._length:
            return
        if len(sources):
            self.move(sources, targets)
        self.keys = self._keys[:rows, :, : self._length]
        self.values = self._values[:rows, :, : self._length]

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Copy rows; the sources are read before any target is written."""
        for buffer in (self._keys, self._values):
            used = buffer[:, :, : self._length]
            used.index_copy_(0, targets, used.index_select(0, sources))

    def _buffer(self, states: Tensor) -> Tensor:
        _, heads, _, width = states.shape
        # Zeros: a position that is masked is multiplied by zero all the same, and must be finite.
        return torch.zeros(
            (self._rows, heads, self._positions, width), dtype=states.dtype, device=states.device
        )


def row_cache(config: PretrainedConfig, rows: int, positions: int, *, windows: bool = False) -> DynamicCache:
    """Return the model's own kind of cache, its layers with full attention in buffers.

    A sliding window that is as long as the texts hides nothing of them: attention is full. Shorter windows,
    recurrent states and other kinds stay transformers' own layers; `reorder_cache` selects rows of any kind.

    Args:
        config: the model's.
        rows: at most.
        positions: of a row, at most.
        windows: leave all sliding windows as they are, long ones too.
    """
    cache = DynamicCache(config=config)

    def is_full(layer: Any) -> bool:
        sliding = type(layer) is DynamicSlidingWindowLayer and positions <= layer.sliding_window
        return type(layer) is DynamicLayer or (sliding and not windows)

    cache.layers = [RowLayer(rows, positions) if is_full(layer) else layer for layer in cache.layers]
    return cache


def select_rows(cache: DynamicCache, parents: Sequence[int], device: str) -> None:
    """Let row i of every layer of a `row_cache` be what row `parents[i]` was.

    `parents` are on the host, so that finding the rows that move does not wait for the device. Layers may lie
    on several devices; `device` is that of layers that do not say.
    """
    moved = [row for row, parent in enumerate(parents) if parent != row]
    from_rows = [parents[row] for row in moved]

    @functools.cache
    def indices(on: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        rows = (moved, from_rows, list(parents))
        return tuple(on_device(one, on, dtype=torch.long) for one in rows)  # type: ignore[return-value]

    for layer in cache.layers:
        targets, sources, index = indices(torch.device(getattr(layer, "device", None) or device))
        if isinstance(layer, RowLayer):
            layer.select(len(parents), sources, targets)
        else:
            layer.reorder_cache(index)  # type: ignore[arg-type]
