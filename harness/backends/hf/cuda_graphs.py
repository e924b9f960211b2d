"""Decoding steps through static buffers, row counts in buckets, one CUDA graph a bucket.

On a GPU a step of few rows takes as long as the host needs to launch its kernels; a captured step is launched
at once. A graph wants the same shapes and addresses each time, so rows are filled up to a power of two and
every step attends over all positions of the cache, the unwritten ones masked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import DynamicCache

from harness.backends.hf.row_cache import RowLayer
from harness.models.load import LoadedModel


def capturable(loaded: LoadedModel) -> bool:
    """Return whether the model's steps can be captured: on CUDA, not quantized, sdpa over plain layers."""
    config = loaded.model.config
    return (
        loaded.device.startswith("cuda")
        and getattr(config, "quantization_config", None) is None
        and config._attn_implementation == "sdpa"
    )


def bucket_size(rows: int, limit: int) -> int:
    """Return the next power of two, but not more than `limit`."""
    return min(1 << (rows - 1).bit_length(), limit)


class CudaGraphRunner:
    """Runs the steps of one batch through static buffers.

    Args:
        forward: the model's forward pass; of what it returns the first axis is the rows.
        cache: all its layers are `RowLayer`s of `rows` rows and `positions` positions, the prompts in them.
        capture: record each bucket's step as a CUDA graph; False runs it as it is.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]],
        cache: DynamicCache,
        rows: int,
        positions: int,
        device: str,
        capture: bool,
    ) -> None:
        self._forward = forward
        self._layers = [layer for layer in cache.layers if isinstance(layer, RowLayer)]
        self._max_rows, self._capture = rows, capture
        self._ids = torch.zeros((rows, 1), dtype=torch.long, device=device)
        self._positions = torch.zeros((rows, 1), dtype=torch.long, device=device)
        self._mask = torch.zeros((rows, 1, 1, positions), dtype=torch.bool, device=device)
        self._slot = torch.zeros(1, dtype=torch.long, device=device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}

    def __call__(self, ids: Tensor, mask: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        """Run one step.

        Args:
            ids: (R, 1) the tokens chosen last.
            mask: (R, length) of everything up to and with them.
            positions: (R, 1) their positions.

        Returns:
            What `forward` returns of these rows, valid until the next step.
        """
        rows, length = mask.shape
        bucket = bucket_size(rows, self._max_rows)
        # Rows that fill up the bucket repeat the first: what they write is finite, and never read.
        for buffer, values in ((self._ids, ids), (self._positions, positions)):
            buffer[:rows] = values
            buffer[rows:bucket] = values[:1]
        self._mask[:rows, 0, 0, :length] = mask.bool()
        self._mask[rows:bucket, 0, 0, :length] = mask[:1].bool()
        self._slot.fill_(length - 1)
        outputs = self._step(bucket)
        for layer in self._layers:
            layer.end_static_step(rows, length)
        return tuple(output[:rows] for output in outputs)

    def _step(self, bucket: int) -> tuple[Tensor, ...]:
        if not self._capture:
            return self._run(bucket)
        if bucket not in self._graphs:
            warmup = torch.cuda.Stream()
            warmup.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warmup):
                for _ in range(2):  # lazy initialisations of libraries must not be captured
                    self._run(bucket)
            torch.cuda.current_stream().wait_stream(warmup)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = self._run(bucket)
            self._graphs[bucket] = (graph, outputs)
        graph, outputs = self._graphs[bucket]
        graph.replay()
        return outputs

    def _run(self, bucket: int) -> tuple[Tensor, ...]:
        for layer in self._layers:
            layer.begin_static_step(bucket, self._slot)
        return self._forward(self._ids[:bucket], self._mask[:bucket], self._positions[:bucket])
