"""The token ids of rows so far, as processors read them: padding aside, prompt and output told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.decoding.upload import on_device


@dataclass(frozen=True)
class Texts:
    """The rows of a left-padded batch.

    Attributes:
        ids: (R, S), prompts padded on the left to `width`.
        prompt_tokens: (R,) tokens of each row's prompt, without padding.
        width: padded length of the prompts.
    """

    ids: Tensor
    prompt_tokens: Sequence[int]
    width: int

    @cached_property
    def present(self) -> Tensor:
        """(R, S) bool, what is no padding."""
        starts = [[self.width - length] for length in self.prompt_tokens]
        return self._positions >= on_device(starts, self.ids.device)

    @cached_property
    def ids_without_padding(self) -> Tensor:
        """(R, S) ids, padding replaced by the row's last token: which tokens a row has stays the same."""
        return torch.where(self.present, self.ids, self.ids[:, -1:])

    @cached_property
    def generated(self) -> Tensor:
        """(R, S) bool, what is no prompt."""
        return (self._positions >= self.width).expand(self.ids.shape)

    @cached_property
    def prompt(self) -> Tensor:
        """(R, S) bool, what is of the prompt."""
        return self.present & (self._positions < self.width)

    def last(self, count: int) -> Tensor:
        """Return (R, S) bool, the last `count` tokens of prompt and output; all where it is -1."""
        if count < 0:
            return self.present
        return self.present & (self._positions >= self.ids.shape[1] - count)

    @property
    def _positions(self) -> Tensor:
        return torch.arange(self.ids.shape[1], device=self.ids.device)


def counts(ids: Tensor, counted: Tensor, vocabulary: int) -> Tensor:
    """Return (R, V) how often each token occurs among the ids (R, S) that are `counted` (R, S)."""
    ones = counted.to(torch.float32)
    return torch.zeros((len(ids), vocabulary), device=ids.device).scatter_add_(1, ids, ones)


def latest(ids: Tensor, counted: Tensor, vocabulary: int) -> Tensor:
    """Return (R, V) the last position at which each token is `counted`; -1 where it is not."""
    positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    found = torch.full((len(ids), vocabulary), -1, dtype=torch.long, device=ids.device)
    return found.scatter_reduce_(1, ids, positions.masked_fill(~counted, -1), "amax")
