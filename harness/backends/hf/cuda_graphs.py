"""Decoding steps through static buffers, rows and positions in buckets, one CUDA graph a bucket.

On a GPU a step of few rows takes as long as the host needs to launch its kernels; a captured step is launched
at once. A graph wants the same shapes and addresses each time, so rows are filled up to a bucket's size and
every step attends over the positions of a bucket, the unwritten ones masked. Capturing takes the host as long
as a step that is not captured: few buckets, kept from batch to batch, and only those that come again.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from harness.backends.hf.forward import CachedForward
from harness.backends.hf.static_cache import StaticCache
from harness.models.load import LoadedModel

_ROWS = (1, 8, 32)
"""The smaller buckets; larger ones are powers of two. Up to 64 rows a step takes hardly longer with more."""
_POSITIONS = 256
_ROUNDED = 8
"""Positions of buffers are a multiple of it, so that prompts that are a little longer find room."""


def capturable(loaded: LoadedModel) -> bool:
    """Return whether the model's steps can be captured: on CUDA, not quantized, sdpa over plain layers."""
    config = loaded.model.config
    return (
        loaded.device.startswith("cuda")
        and getattr(config, "quantization_config", None) is None
        and config._attn_implementation == "sdpa"
    )


def captures(loaded: LoadedModel, compile_steps: str) -> bool:
    """Return whether steps are captured with `engine.compile`: where sure to work, or asked for on CUDA."""
    if loaded.placement.kind != "single":
        return False
    if compile_steps == "on":
        return loaded.device.startswith("cuda")
    return compile_steps == "auto" and capturable(loaded)


def bucket_rows(rows: int, limit: int) -> int:
    """Return the smallest bucket of so many rows, but not more than `limit`."""
    smallest = next((size for size in _ROWS if size >= rows), 1 << (rows - 1).bit_length())
    return min(smallest, limit)


def bucket_positions(length: int, limit: int) -> int:
    """Return the next multiple of 256 positions, but not more than `limit`."""
    return min(-(-length // _POSITIONS) * _POSITIONS, limit)


class StaticSteps:
    """Keeps the buffers and graphs of a model's last batch for the next one that fits."""

    def __init__(self) -> None:
        self._runner: StepRunner | None = None

    def runner(
        self, loaded: LoadedModel, layers: tuple[int, ...], rows: int, positions: int
    ) -> StepRunner | None:
        """Return what runs the steps of a new batch; None where a layer of the cache is not in buffers.

        Args:
            loaded: the model, the same in each call.
            layers: whose hidden states are wanted.
            rows: of the batch, at most.
            positions: of its rows, at most.
        """
        if self._runner is not None and self._runner.fits(layers, rows, positions):
            self._runner.clear()
            return self._runner
        self.release()  # before the new buffers are there
        positions = -(-positions // _ROUNDED) * _ROUNDED
        cache = StaticCache.of(loaded.model.config, rows, positions)
        if cache is None:
            return None
        forward = CachedForward(loaded.model, cache.cache, layers)
        self._runner = StepRunner(forward, cache, rows, positions, loaded.device)
        return self._runner

    def release(self) -> None:
        """Free the buffers and graphs."""
        self._runner = None


class StepRunner:
    """Runs steps through static buffers; on CUDA those that come again as graphs.

    Attributes:
        forward: the model's forward pass over the cache that the prompts are to be read into.
    """

    def __init__(
        self, forward: CachedForward, cache: StaticCache, rows: int, positions: int, device: str
    ) -> None:
        """Allocate the buffers for `rows` rows of `positions` positions; `forward` reads the cache."""
        self.forward = forward
        self._cache, self._device = cache, device
        self._max_rows, self._max_positions = rows, positions
        self._ids = torch.zeros((rows, 1), dtype=torch.long, device=device)
        self._positions = torch.zeros((rows, 1), dtype=torch.long, device=device)
        self._mask = torch.zeros((rows, 1, 1, positions), dtype=torch.bool, device=device)
        self._slot = torch.zeros(1, dtype=torch.long, device=device)
        self._graphs = _Graphs(device) if device.startswith("cuda") else None

    def fits(self, layers: tuple[int, ...], rows: int, positions: int) -> bool:
        """Return whether a batch has room, and does not attend over twice the positions that it needs."""
        room = rows <= self._max_rows and positions <= self._max_positions
        return room and self.forward.layers == layers and self._max_positions < 2 * positions + _ROUNDED

    def clear(self) -> None:
        """Forget the batch; buffers and graphs stay."""
        self._mask.zero_()
        self._cache.clear()

    def select(self, parents: Sequence[int]) -> None:
        """Let row i be what row `parents[i]` was."""
        self._cache.select(parents, self._device)

    def __call__(self, ids: Tensor, mask: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        """Run one step.

        Args:
            ids: (R, 1) the tokens chosen last.
            mask: (R, length) of everything up to and with them.
            positions: (R, 1) their positions.

        Returns:
            What `forward` returns of these rows.
        """
        rows, length = mask.shape
        bucket = bucket_rows(rows, self._max_rows), bucket_positions(length, self._max_positions)
        filled = bucket[0]
        # Rows that fill up the bucket repeat the first: what they write is finite, and never read.
        for buffer, values in ((self._ids, ids), (self._positions, positions)):
            buffer[:rows] = values
            buffer[rows:filled] = values[:1]
        self._mask[:rows, 0, 0, :length] = mask.bool()
        self._mask[rows:filled, 0, 0, :length] = mask[:1].bool()
        self._slot.fill_(length - 1)
        outputs = self._run(*bucket) if self._graphs is None else self._graphs.run(bucket, self._run)
        for layer in self._cache.layers:
            layer.end_step(length)
        # A graph writes over its outputs when it runs again.
        return tuple(output[:rows] if self._graphs is None else output[:rows].clone() for output in outputs)

    def _run(self, rows: int, positions: int) -> tuple[Tensor, ...]:
        for layer in self._cache.layers:
            layer.begin_step(rows, positions, self._slot)
        return self.forward(self._ids[:rows], self._mask[:rows, ..., :positions], self._positions[:rows])


class _Graphs:
    """A CUDA graph of each bucket that came twice.

    The first time the step runs as it is, which loads the kernels and the libraries' workspaces: that must
    not be captured. All of it happens on one stream, since cuBLAS keeps a workspace a stream. Graphs share
    their memory: the outputs of one last until another runs.
    """

    def __init__(self, device: str) -> None:
        self._stream = _side_stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._met: set[tuple[int, int]] = set()
        self._captured: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}

    def run(
        self, bucket: tuple[int, int], step: Callable[[int, int], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Run the step of a bucket; return its outputs."""
        current = torch.cuda.current_stream()
        if bucket not in self._met:
            self._met.add(bucket)
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                outputs = step(*bucket)
            current.wait_stream(self._stream)
            return outputs
        if bucket not in self._captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(self._stream), _nothing_collected():
                # Other threads may use the device meanwhile.
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    outputs = step(*bucket)
                finally:
                    graph.capture_end()
            self._captured[bucket] = graph, outputs
        graph, outputs = self._captured[bucket]
        graph.replay()
        return outputs


@cache
def _side_stream(device: str) -> torch.cuda.Stream:
    """Return the one stream that a device's steps are captured on: cuBLAS keeps a workspace for each."""
    return torch.cuda.Stream(device)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep the garbage collector from freeing a graph meanwhile, which would break the one being captured."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
