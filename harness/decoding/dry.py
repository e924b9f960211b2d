"""DRY: a penalty on tokens that would continue a sequence that the text already has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.decoding.texts import Texts

_LARGEST_LOG = 88.7228391
"""The log of the largest 32-bit float: no power grows beyond it, as in llama.cpp."""


class Dry:
    """Don't repeat yourself (p-e-w 2024, text-generation-webui #5677), as llama.cpp has it.

    Of the window c1..cn let k_j be the length of the common suffix of c1..cj and c1..cn. A token x that has
    followed some c_j is penalised by multiplier x base^(m - allowed), m the largest such k_j, where m is at
    least `allowed`. No sequence extends over a breaker, and a token that is one has no penalty.
    """

    def __init__(
        self,
        multiplier: float,
        base: float,
        allowed: int,
        last_n: int,
        breakers: Sequence[int],
    ) -> None:
        """`breakers` are the ids of tokens that no repeated sequence extends over."""
        self._multiplier, self._base, self._allowed, self._last_n = multiplier, base, allowed, last_n
        self._breakers = list(breakers)
        self._most = int(_LARGEST_LOG / math.log(base)) if base > 1 else 0
        self._on: dict[torch.device, Tensor] = {}

    def __call__(self, texts: Texts, logits: Tensor) -> Tensor:
        """Return penalised (R, V) logits."""
        breaks = self._is_breaker(logits)
        window = texts.last(self._last_n)
        matches = suffix_matches(texts.ids, window, breaks, self._allowed + self._most)
        if not matches.shape[1]:
            return logits
        followers, lengths = texts.ids[:, 1:], matches[:, :-1]
        longest = torch.zeros_like(logits, dtype=torch.long)
        longest.scatter_reduce_(1, followers, lengths, "amax")
        power = (longest - self._allowed).clamp(max=self._most)
        penalty = self._multiplier * self._base ** power.to(logits.dtype)
        repeated = (longest >= self._allowed) & ~breaks
        return torch.where(repeated, logits - penalty, logits)

    def _is_breaker(self, logits: Tensor) -> Tensor:
        """Return (V,) bool."""
        if logits.device not in self._on:
            mask = torch.zeros(logits.shape[1], dtype=torch.bool)
            mask[[token for token in self._breakers if token < logits.shape[1]]] = True
            self._on[logits.device] = mask.to(logits.device)
        return self._on[logits.device]


def suffix_matches(ids: Tensor, window: Tensor, breaks: Tensor, most: int) -> Tensor:
    """Return (R, S) for each position j, how many tokens before and at it equal those that end the row.

    Args:
        ids: (R, S) token ids.
        window: (R, S) bool, the end of each row that is looked at.
        breaks: (V,) bool, tokens that no match extends over.
        most: matches are counted up to this length.
    """
    width = ids.shape[1]
    usable = window & ~breaks[ids]
    lengths = torch.zeros_like(ids)
    matching = torch.ones_like(window)
    matching[:, -1] = False  # the end matches itself
    for back in range(min(most, width - 1)):
        shifted = torch.zeros_like(window)
        here = slice(0, width - back)
        same = (ids[:, here] == ids[:, width - 1 - back, None]) & usable[:, here]
        shifted[:, back:] = same & usable[:, width - 1 - back, None]
        matching = matching & shifted
        # Here the host waits for the device.
        if not bool(matching.any()):
            break
        lengths += matching
    return lengths
