"""What a backend returns along given texts, which drift is computed with: full distributions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from harness.prompts.passages import Passage
    from harness.store.reference_index import ReferenceIndex


@dataclass(frozen=True)
class PassageDrift:
    """One passage under two models, from `Distributions.compare`.

    By scored token: the text it adds, the texts of the second model's likeliest tokens, and `values`, arrays
    by column of drift.parquet.
    """

    passage: Passage
    token_texts: Sequence[str]
    top_tokens: Sequence[Sequence[str]]
    values: Mapping[str, np.ndarray]


class Reference(Protocol):
    """Stored distributions of a reference; `index` says what is stored."""

    index: ReferenceIndex

    def chunks(self, passages: Iterable[Passage]) -> Iterator[tuple[int, list[Passage]]]:
        """Yield the stored ones of the passages, chunk by chunk, each with the chunk's number."""


class Distributions(Protocol):
    """Full distributions of a backend's model along given texts: what drift needs."""

    def keep_reference(
        self,
        passages: Iterable[Passage],
        folder: Path,
        heads: Path,
        *,
        positions: int,
        together: int,
        budget: int,
        share: int,
        progress: Progress,
    ) -> None:
        """Store the distributions along passages in a folder, as many as a budget allows.

        Args:
            passages: the texts, in order; one is stored completely or not at all.
            folder: where the distributions and their index (`store.reference_index`) are written.
            heads: folder of output heads, shared by several folders of distributions.
            positions: scored tokens of these passages.
            together: scored tokens of all passages that share the budget.
            budget: bytes for all passages that share it.
            share: bytes of the budget for these passages, noted in the index.
            progress: advances by scored tokens.
        """

    def open_reference(self, folder: Path, heads: Path) -> Reference:
        """Open stored distributions; FileNotFoundError if the folder has no complete index."""

    def compare(
        self, reference: Reference, chunk: int, passages: Sequence[Passage], top_k: int
    ) -> Iterator[PassageDrift]:
        """Compare this model with a reference along the passages of one chunk, token by token.

        `top_k` likeliest tokens of this model are returned per token.
        """

    def log_likelihood(self, passages: Sequence[Passage], progress: Progress) -> float:
        """Return the log-probability of all scored tokens, in nats; `progress` advances by tokens."""
