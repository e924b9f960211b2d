"""Which tokens are green in the KGW watermark, in NumPy, for detectors, which have no torch.

A seed's green tokens are the first of torch's random permutation of the vocabulary on a CPU: a shuffle
(Fisher and Yates) by 32-bit numbers of a Mersenne twister. One token's place is found without the others'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

_TABLE_SIZE = 1_000_003
_MOST_KNOWN = 1 << 18
"""Tokens of which is remembered whether they are green after a seed."""


class GreenTokens:
    """The green tokens after a context, by transformers' definition."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int) -> None:
        """`settings` are the fields `kgw_...` of a strategy."""
        self._key: int = settings["kgw_hashing_key"]
        self.selfhash = settings["kgw_seeding_scheme"] == "selfhash"
        self.width: int = settings["kgw_context_width"]
        self.size = int(vocabulary * settings["kgw_greenlist_ratio"])
        self._vocabulary = vocabulary
        self._known: dict[tuple[int, int], bool] = {}

    @property
    def window(self) -> int:
        """The tokens that decide whether the last of them is green."""
        return self.width + (0 if self.selfhash else 1)

    def seed_after(self, token: int) -> int:
        """Return the seed of `lefthash` after a token."""
        return self._key * token % (2**64 - 1)

    def are_green(self, windows: Sequence[Sequence[int]]) -> list[bool]:
        """Return whether the last token of each window is green after those before it."""
        if not windows:
            return []
        if self.selfhash:
            table = _table(self._key)
            hashes = table[np.asarray(windows, dtype=np.int64) % _TABLE_SIZE] + 1
            # Products wrap to 64 bits.
            products = np.int64(self._key) * hashes * hashes[:, -1:]
            seeds = [seed % (2**64 - 1) for seed in products.min(axis=1).tolist()]
        else:
            seeds = [self.seed_after(window[-2]) for window in windows]
        return [self._is_green(seed, window[-1]) for seed, window in zip(seeds, windows, strict=True)]

    def _is_green(self, seed: int, token: int) -> bool:
        if (seed, token) not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[seed, token] = is_first(seed, self._vocabulary, self.size, token)
        return self._known[seed, token]


def is_first(seed: int, count: int, first: int, item: int) -> bool:
    """Return whether an item is among the `first` of torch's random permutation of `count` items.

    The shuffle swaps each place in turn with one that is not before it. An item that is swapped forward to a
    place stays there; one whose own place has its turn moves on.
    """
    places = np.arange(first)
    swapped = places + _numbers(seed, first) % (count - places)
    place, turn = item, 0
    while True:
        if (swapped[turn : min(place, first)] == place).any():
            return True
        if place >= first:
            return False
        if swapped[place] == place:
            return True
        place, turn = int(swapped[place]), place + 1


def _numbers(seed: int, count: int) -> np.ndarray:
    """Return 32-bit numbers of the Mersenne twister that torch's generator is on a CPU, as int64."""
    generator = np.random.RandomState(seed & 0xFFFFFFFF)
    return generator.randint(0, 2**32, count, dtype=np.uint32).astype(np.int64)


@lru_cache(maxsize=2)
def _table(key: int) -> np.ndarray:
    """Return the random permutation by which `selfhash` hashes token ids."""
    places = np.arange(_TABLE_SIZE - 1)
    others = (places + _numbers(key, _TABLE_SIZE - 1) % (_TABLE_SIZE - places)).tolist()
    table = list(range(_TABLE_SIZE))
    for place, other in enumerate(others):
        table[place], table[other] = table[other], table[place]
    return np.array(table, dtype=np.int64)
