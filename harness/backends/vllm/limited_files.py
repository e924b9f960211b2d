"""A checkpoint in vLLM, which keeps room for so many positions and so many sequences."""

from __future__ import annotations

from dataclasses import dataclass

from harness.models.locate import ModelFiles

MOST_ROWS = 256
"""Sequences that are decoded at once where nothing else is asked for; vLLM's own default."""


@dataclass(frozen=True)
class LimitedFiles(ModelFiles):
    """A checkpoint of which only so many positions are used; all with `limit` None."""

    limit: int | None = None

    @property
    def context_length(self) -> int | None:
        """The number of positions that vLLM is to keep room for."""
        own = super().context_length
        return own if self.limit is None else min(self.limit, own or self.limit)
