"""The SynthID watermark (Dathathri et al. 2024, Nature 634): a tournament of the probabilities.

In the round of a key each token has a random bit g, a hash of the tokens before and its id, and
p becomes p (1 + g - the sum of p g): the law of the winner of two tokens drawn from p, the one with g = 1
before the other. The hash, the table of bits and their order are transformers'; the table is made by the
generator of the CPU on every device. What is remembered of a text is a function of its tokens: a context that
occurred among the latest is not marked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from harness.decoding.synthid_numpy import MULTIPLIER, random_bits
from harness.decoding.texts import Texts


def hashed(state: Tensor, data: Tensor) -> Tensor:
    """Return a hash of (..., n) integers that goes on from a state (...)."""
    for column in data.unbind(-1):
        state = (state + column) * MULTIPLIER + 1
    return state


class SynthId:
    """The watermark with its keys."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` are the fields `synthid_...` of a strategy."""
        self._keys: Sequence[int] = settings["synthid_keys"]
        self._ngram: int = settings["synthid_ngram_len"]
        self._history: int = settings["synthid_context_history_size"]
        self._skips = bool(settings.get("synthid_skip_first_ngram_calls"))
        self._table_of = (settings["synthid_sampling_table_seed"], settings["synthid_sampling_table_size"])

    def __call__(self, texts: Texts, scores: Tensor) -> Tensor:
        """Return new (R, V) scores, log-probabilities where a text is marked."""
        output = texts.ids[:, texts.width :]
        steps, width = output.shape[1], self._ngram - 1
        if self._skips and steps < width:
            return scores
        # Before the output there are zeros, not the prompt.
        padded = torch.cat([output.new_zeros((len(output), width)), output], dim=1)
        contexts = self._contexts(padded[:, (width if self._skips else 0) :])
        current = contexts[:, -1]
        repeated = (contexts[:, :-1][:, -self._history :] == current[:, None]).any(1, keepdim=True)
        tokens = torch.arange(scores.shape[1], device=scores.device)
        ngrams = hashed(current[:, None], tokens[None, :, None])
        p = scores.softmax(dim=1)
        for key in self._keys:
            g = self._bits(ngrams, key, p.dtype)
            mass = (g * p).sum(dim=1, keepdim=True)
            p = p * (1 + g - mass)
        # Where all mass has g = 1, rounding may leave less than nothing of the others; no token is removed.
        marked = p.clamp(min=torch.finfo(p.dtype).tiny).log()
        return torch.where(repeated | (scores == float("-inf")), scores, marked)

    def _contexts(self, ids: Tensor) -> Tensor:
        """Return (R, T) hashes of all windows of (R, S) ids that a next token is drawn after."""
        windows = ids.unfold(1, self._ngram - 1, 1)
        return hashed(torch.ones_like(windows[..., 0]), windows)

    def _bits(self, hashes: Tensor, key: int, dtype: torch.dtype) -> Tensor:
        """Return the random bits of a key that follow hashes."""
        table = _table(*self._table_of, str(hashes.device), dtype)
        size = len(table)
        if size & (size - 1):
            return table[hashed(hashes, hashes.new_tensor([key])) % size]
        # Of a power of 2 the low bits are enough.
        low = hashes.to(torch.int32)
        low = (low + _low(key)).mul_(_low(MULTIPLIER)).add_(1).bitwise_and_(size - 1)
        return table.index_select(0, low.flatten()).view(low.shape)


def _low(value: int) -> int:
    """Return the low 32 bits of an integer, signed."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


@lru_cache(maxsize=8)
def _table(seed: int, size: int, device: str, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(random_bits(seed, size)).to(device, dtype)
