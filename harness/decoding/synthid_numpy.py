"""The random bits of the SynthID watermark in NumPy, for its detector, which has no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

MULTIPLIER = 6364136223846793005
"""Of a linear congruential generator; products wrap to 64 bits."""


def bits_of_output(settings: Mapping[str, Any], output: Sequence[int]) -> np.ndarray:
    """Return the (T, keys) bits of an output's tokens, of those whose context did not occur before.

    Args:
        settings: the fields `synthid_...` of a strategy.
        output: token ids; those with a whole context in them count.
    """
    keys = np.array(settings["synthid_keys"], dtype=np.int64)
    width, history = settings["synthid_ngram_len"] - 1, settings["synthid_context_history_size"]
    ids = np.asarray(output, dtype=np.int64)
    if len(ids) <= width:
        return np.zeros((0, len(keys)), dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(ids[:-1], width)
    contexts = _hashed(np.ones(len(windows), dtype=np.int64), windows)
    ngrams = _hashed(contexts, ids[width:, None])
    values = contexts.tolist()
    fresh = [value not in values[max(0, at - history) : at] for at, value in enumerate(values)]
    hashes = _hashed(ngrams[:, None], keys[None, :, None])
    table = random_bits(settings["synthid_sampling_table_seed"], settings["synthid_sampling_table_size"])
    return np.asarray(table[hashes % len(table)][fresh])


def _hashed(state: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Return a hash of (..., n) integers that goes on from a state (...)."""
    for column in range(data.shape[-1]):
        state = (state + data[..., column]) * np.int64(MULTIPLIER) + np.int64(1)
    return state


@lru_cache(maxsize=8)
def random_bits(seed: int, size: int) -> np.ndarray:
    """Return the table of bits, those that torch's generator on a CPU gives."""
    generator = np.random.RandomState(seed & 0xFFFFFFFF)
    return generator.randint(0, 2**32, size, dtype=np.uint32).astype(np.int64) & 1
