"""A cache whose buffers stay where they are from batch to batch, so that steps over it can be captured.

The buffers of all layers are parts of one tensor: a selection of rows moves them in all layers at once, where
layer by layer it would take a hundred kernels and more a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig

from harness.backends.hf.row_cache import RowLayer, row_cache
from harness.decoding.upload import on_device
from harness.models.memory import key_value_heads

_MOST_MOVED = 2**28
"""Bytes that are moved at once: between source and target they are in memory once more."""


class StaticLayer(RowLayer):
    """A layer that is written and read at fixed addresses during a static step."""

    def __init__(self, rows: int, positions: int, keys: LayerBuffers, values: LayerBuffers) -> None:
        super().__init__(rows, positions)
        self._all_keys, self._all_values = keys, values
        self._slot: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the layer's buffers."""
        self.dtype, self.device = key_states.dtype, key_states.device
        room = (self._rows, self._positions)
        self._keys, self._values = (
            self._all_keys.take(key_states, *room),
            self._all_values.take(value_states, *room),
        )
        self.keys, self.values = self._keys[:0], self._values[:0]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write new positions: in a static step one, at its slot; returns views of what the step sees."""
        if self._slot is None:
            return super().update(key_states, value_states)
        rows = len(key_states)
        self._keys[:rows].index_copy_(2, self._slot, key_states)
        self._values[:rows].index_copy_(2, self._slot, value_states)
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def begin_step(self, rows: int, positions: int, slot: Tensor) -> None:
        """Let the next step write its `rows` rows at the position in `slot` (1,), and see so many positions.

        Nothing about such a step is decided on the host, so it can be captured; `end_step` follows.
        """
        self._slot = slot
        self.keys, self.values = self._keys[:rows, :, :positions], self._values[:rows, :, :positions]

    def end_step(self, length: int) -> None:
        """End a static step: `length` positions are in use."""
        self._slot, self._length = None, length

    def clear(self) -> None:
        """Forget what was read; the buffers stay."""
        self._slot, self._length = None, 0
        if self.is_initialized:
            self.keys, self.values = self._keys[:0], self._values[:0]


class LayerBuffers:
    """The buffers of the keys, or of the values, of `count` layers of one shape; others have their own."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._blocks: list[Tensor] = []
        self._taken = 0

    def take(self, states: Tensor, rows: int, positions: int) -> Tensor:
        """Return a buffer (rows, heads, positions, width) for states (R, heads, N, width)."""
        shape = (rows, states.shape[1], positions, states.shape[3])
        if self._blocks and self._taken < self._count:
            first = self._blocks[0]
            if (first.shape[1:], first.dtype, first.device) == (shape, states.dtype, states.device):
                self._taken += 1
                return first[self._taken - 1]
        # Zeros: a position that is masked is multiplied by zero all the same, and must be finite.
        count = 1 if self._blocks else self._count
        self._blocks.append(torch.zeros((count, *shape), dtype=states.dtype, device=states.device))
        self._taken = max(self._taken, 1)
        return self._blocks[-1][0]

    def move(self, sources: Tensor, targets: Tensor, length: int) -> None:
        """Copy rows of all layers; the sources are read before any target is written."""
        for block in self._blocks:
            moved = len(targets) * block[0, 0, :, :length].numel() * block.element_size()
            for some in block.split(max(1, _MOST_MOVED // max(1, moved))):
                some[:, targets, :, :length] = some[:, sources, :, :length]

    def clear(self) -> None:
        """Set all to zero."""
        for block in self._blocks:
            block.zero_()


class StaticCache:
    """A cache of static layers.

    Attributes:
        layers: those of `cache`, which the model reads and writes.
    """

    def __init__(
        self, cache: DynamicCache, layers: Sequence[StaticLayer], buffers: Sequence[LayerBuffers]
    ) -> None:
        self.cache, self.layers, self._buffers = cache, layers, buffers

    @classmethod
    def of(cls, config: PretrainedConfig, rows: int, positions: int) -> StaticCache | None:
        """Return a cache of `rows` rows of `positions` positions; None where a layer cannot be in buffers."""
        cache = row_cache(config, rows, positions)
        if not all(isinstance(layer, RowLayer) for layer in cache.layers):
            return None
        count = len(cache.layers) if key_value_heads(config.get_text_config().to_dict()) else 1
        buffers = LayerBuffers(count), LayerBuffers(count)
        layers = [StaticLayer(rows, positions, *buffers) for _ in cache.layers]
        cache.layers = list(layers)
        return cls(cache, layers, buffers)

    def select(self, parents: Sequence[int], device: str) -> None:
        """Let row i of every layer be what row `parents[i]` was; the next step says how many there are."""
        moved = [row for row, parent in enumerate(parents) if parent != row]
        if moved:
            sources, targets = on_device([parents[row] for row in moved], device), on_device(moved, device)
            for buffers in self._buffers:
                buffers.move(sources, targets, self.cache.get_seq_length())

    def clear(self) -> None:
        """Forget what was read; the buffers stay."""
        for buffers in self._buffers:
            buffers.clear()
        for layer in self.layers:
            layer.clear()
