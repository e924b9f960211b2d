"""Stores a model's distributions along texts, and compares a model with stored ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch

from harness.backends.distributions import PassageDrift, Reference
from harness.backends.hf.divergence import divergence, softmax_into
from harness.backends.hf.reference_files import (
    PreallocatedColumns,
    StoredReference,
    storage_format,
    write_reference,
)
from harness.backends.hf.teacher_forcing import TeacherForcing
from harness.decoding.detokenizer import Detokenizer
from harness.models.load import LoadedModel
from harness.progress import Progress
from harness.prompts.passages import Passage


class ReferenceComparison:
    """The `backends.backend.Distributions` of a loaded model."""

    def __init__(
        self, loaded: LoadedModel, detokenizer: Detokenizer, forced: TeacherForcing | None = None
    ) -> None:
        """Take a model; `forced` reads passages with it, made here when None."""
        self._loaded = loaded
        self._detokenizer = detokenizer
        self._given = forced

    @cached_property
    def _forced(self) -> TeacherForcing:
        return self._given or TeacherForcing(self._loaded)

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
        """Store the distributions along passages in a folder, as many as a budget allows."""
        vocabulary = self._loaded.model.config.get_text_config().vocab_size
        storage = storage_format(self._forced.head, vocabulary, together, budget)
        limit = positions
        if storage.capacity < together:
            limit = storage.capacity * positions // max(1, together)
        write_reference(self._forced, passages, folder, heads, storage, limit, share, progress.advance)

    def open_reference(self, folder: Path, heads: Path) -> StoredReference:
        """Open stored distributions; FileNotFoundError if the folder has no complete index."""
        return StoredReference(folder, heads, self._loaded.device)

    @torch.inference_mode()
    def compare(
        self, reference: Reference, chunk: int, passages: Sequence[Passage], top_k: int
    ) -> Iterator[PassageDrift]:
        """Compare this model with a reference along the passages of one chunk, token by token."""
        assert isinstance(reference, StoredReference)
        compared = PreallocatedColumns(sum(map(len, passages)))
        readings = zip(reference.read(chunk, passages), self._forced.logits(passages), strict=True)
        for distributions, (passage, slices) in readings:
            tokens = torch.tensor(passage.target_ids, device=self._loaded.device)
            for start, logits in slices:
                end = start + len(logits)
                compared.append(divergence(distributions(start, end), logits, tokens[start:end], top_k))
        columns = {name: column.numpy() for name, column in compared.columns.items()}
        start = 0
        for passage in passages:
            end = start + len(passage)
            values = {name: column[start:end] for name, column in columns.items()}
            text = self._detokenizer.output_text(passage.ids[: passage.first_target], passage.target_ids)
            tops = [[self._detokenizer.token_text(id_) for id_ in ids] for ids in values["top_ids"].tolist()]
            yield PassageDrift(passage, text.token_texts, tops, values)
            start = end

    @torch.inference_mode()
    def log_likelihood(self, passages: Sequence[Passage], progress: Progress) -> float:
        """Return the log-probability of all scored tokens, in nats; `progress` advances by tokens."""
        total = 0.0
        for passage, slices in self._forced.logits(passages):
            for start, logits in slices:
                tokens = torch.tensor(passage.target_ids[start : start + len(logits)], device=logits.device)
                log_p, _ = softmax_into(logits, torch.empty_like(logits), torch.empty_like(logits))
                total += math.fsum(log_p.gather(1, tokens[:, None])[:, 0].tolist())
            progress.advance(len(passage))
        return total
