"""The luck of `luck.py` without torch: the same keys, the same hash, the same noise, in NumPy.

Who reads the store has no torch, and yet is to know what luck every token had. The uniform numbers equal
those of `luck.py` bit for bit; two logarithms later the noise does so up to the last place.
"""

from __future__ import annotations

import hashlib

import numpy as np

# The odd constants of SplitMix64 (Steele, Lea and Flood 2014).
GAMMA = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def noise_key(seed: int, prompt_id: str, sample: int) -> int:
    """The 64-bit key of one sample's luck, as a signed integer."""
    digest = hashlib.blake2b(f"{seed}\x1f{prompt_id}\x1f{sample}".encode("utf-8", "replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser on uint64, in place; multiplication wraps."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(MIX_1)
    x ^= x >> np.uint64(27)
    x *= np.uint64(MIX_2)
    x ^= x >> np.uint64(31)
    return x


def step_states(keys: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The state of each key's luck at its step: uint64; keys (int64) and steps (int64) broadcast."""
    turns = (np.asarray(steps, dtype=np.int64) + 1).astype(np.uint64) * np.uint64(GAMMA)
    return _mix(np.atleast_1d(np.asarray(keys, dtype=np.int64).astype(np.uint64) + turns))


def uniform(states: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
    """Uniform numbers in the open interval (0, 1), float64; states (uint64) and token ids broadcast."""
    turns = (np.asarray(token_ids, dtype=np.int64) + 1).astype(np.uint64) * np.uint64(GAMMA)
    bits = _mix(np.atleast_1d(states + turns))
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def gumbel(states: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
    """Standard Gumbel noise, float64; states (uint64) and token ids broadcast."""
    return -np.log(-np.log(uniform(states, token_ids)))
