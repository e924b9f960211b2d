"""The shared Gumbel noise of `gumbel.py` in NumPy, for analysis, which has no torch.

The uniform numbers equal those of `gumbel.py` bit for bit; after two logarithms the last bit may differ.
"""

from __future__ import annotations

import hashlib

import numpy as np

# The odd constants of SplitMix64 (Steele, Lea and Flood 2014).
GAMMA = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def noise_key(seed: int, prompt_id: str, sample: int) -> int:
    """Return the 64-bit key of one sample's noise, as a signed integer."""
    digest = hashlib.blake2b(f"{seed}\x1f{prompt_id}\x1f{sample}".encode("utf-8", "replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)


def key_of_step(key: int, step: int) -> int:
    """Return the key whose noise at step 0 is that of `key` at `step`."""
    return (key + step * GAMMA + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: np.ndarray) -> np.ndarray:
    """Apply SplitMix64's finaliser to uint64, in place; multiplication wraps."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(MIX_1)
    x ^= x >> np.uint64(27)
    x *= np.uint64(MIX_2)
    x ^= x >> np.uint64(31)
    return x


def step_states(keys: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the hash state of each key at its step: uint64; keys (int64) and steps (int64) broadcast."""
    increments = (np.asarray(steps, dtype=np.int64) + 1).astype(np.uint64) * np.uint64(GAMMA)
    return _mix(np.atleast_1d(np.asarray(keys, dtype=np.int64).astype(np.uint64) + increments))


def uniform(states: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
    """Return uniform numbers in (0, 1), float64; states (uint64) and token ids broadcast."""
    increments = (np.asarray(token_ids, dtype=np.int64) + 1).astype(np.uint64) * np.uint64(GAMMA)
    bits = _mix(np.atleast_1d(states + increments))
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def gumbel(states: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
    """Return standard Gumbel noise, float64; states (uint64) and token ids broadcast."""
    return -np.log(-np.log(uniform(states, token_ids)))
