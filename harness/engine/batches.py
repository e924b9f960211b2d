"""How many rows are decoded at once: by estimate, and halved when the device still runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

from harness.engine.batch import Row
from harness.models.memory import available_bytes
from harness.results.records import Sample

if TYPE_CHECKING:
    from harness.models.load import LoadedModel

_MOST_ROWS = {"cuda": 256, "mps": 64, "cpu": 32}
# Copies of a row's float32 logits alive at once: processors, both distributions, sorting.
_LOGITS_COPIES = 10
_SHARE_OF_FREE = 0.6

T = TypeVar("T")


def rows_that_fit(loaded: LoadedModel, cache_bytes: int, beams: int, wanted: Literal["auto"] | int) -> int:
    """How many samples, each of `beams` rows with caches of `cache_bytes`, to decode at once."""
    if wanted != "auto":
        return wanted
    vocabulary = loaded.model.config.get_text_config().vocab_size
    # Twice the cache: it is concatenated with each step's keys and values.
    row = beams * (2 * cache_bytes + vocabulary * 4 * _LOGITS_COPIES)
    fit = int(available_bytes(loaded.device) * _SHARE_OF_FREE / max(row, 1))
    return max(1, min(fit, _MOST_ROWS[loaded.device.partition(":")[0]] // beams or 1))


def in_batches(
    rows: Sequence[Row], size: int, decode: Callable[[Sequence[Row]], list[Sample]]
) -> list[Sample]:
    """Decode rows `size` at a time, alike lengths together, and give the samples back in rows' order."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place].prompt.ids))
    samples: dict[int, Sample] = {}
    for start in range(0, len(order), size):
        places = order[start : start + size]
        for place, sample in zip(places, halving([rows[p] for p in places], decode), strict=True):
            samples[place] = sample
    return [samples[place] for place in range(len(rows))]


def halving(rows: Sequence[Row], decode: Callable[[Sequence[Row]], list[Sample]]) -> list[Sample]:
    """Decode a batch; when the device runs out of memory, its halves, down to a single row."""
    try:
        return decode(rows)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    # Outside the handler, so that the failed attempt's tensors are not kept alive by its traceback.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(rows) // 2
    return halving(rows[:middle], decode) + halving(rows[middle:], decode)
