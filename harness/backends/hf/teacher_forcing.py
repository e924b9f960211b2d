"""Teacher forcing: the hidden states and logits of a model along texts that exist already.

On a CPU a text is read by itself; on a GPU neighbouring texts are read as one batch, padded on the right. A
long text is read in slices with the KV cache kept; logits exist for a few positions at a time only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from harness.backends.hf.forward import forward
from harness.backends.hf.output_head import capture_inputs, find_head
from harness.models.load import LoadedModel
from harness.prompts.passages import Passage

LOGIT_ROWS = 128
"""Most positions whose logits are computed from hidden states at once."""
_LOGIT_SLICE = 32
"""Tokens that the model itself computes logits of in one forward pass."""
_HIDDEN_SLICE = 512
"""Tokens per forward pass when only hidden states are collected."""
_BATCH_TOKENS = 4096


def read_in_slices(
    model: Any, ids: Tensor, edges: Iterable[int], logits_from: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """Run a model over (R, N) token ids slice by slice, the KV cache kept between slices.

    Args:
        model: a causal language model.
        ids: without padding on the left.
        edges: where slices begin, in order, then where the last one ends.
        logits_from: in slices that begin before this index, only the last position gets logits.

    Yields:
        (start, logits) of each slice: float32, (R, positions, V).
    """
    cache = None
    for start, end in pairwise(edges):
        options = {} if start >= logits_from else {"logits_to_keep": 1}
        mask = torch.ones_like(ids[:, :end])
        logits, cache = forward(model, ids[:, start:end], mask, cache, **options)
        yield start, logits


def logits_along(loaded: LoadedModel, ids: Sequence[int], first: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (start, logits) a slice at a time: `logits[i]` (float32, (V,)) predicts `ids[start + i]`.

    Of the tokens before `first` there are none.
    """
    # Logits at index i predict token i + 1, and none before `first - 1` are needed.
    edges = sorted({0, *range(first - 1, len(ids) - 1, _LOGIT_SLICE), len(ids) - 1})
    read = read_in_slices(loaded.model, torch.tensor([list(ids)], device=loaded.device), edges, first - 1)
    for start, logits in read:
        if start >= first - 1:
            yield start + 1, logits[0]


class TeacherForcing:
    """Reads passages with a loaded model; `head` is None if logits do not follow from its input."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.head = find_head(loaded.model)

    @torch.inference_mode()
    def hidden_states(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, Tensor]]:
        """Yield each passage with the head's inputs that predict its scored tokens, (scored tokens, H)."""
        for batch in _batches(passages, self._loaded.device):
            hidden = self._batch_hidden_states(batch)
            for row, passage in enumerate(batch):
                yield passage, hidden[row, passage.first_target - 1 : len(passage.ids) - 1]

    @torch.inference_mode()
    def logits(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, Iterator[tuple[int, Tensor]]]]:
        """Yield each passage with slices (start, logits) of its scored tokens, a few positions at a time.

        `logits[i]` (float32, (V,)) predicts the scored token `start + i`. Consume a passage's slices before
        the next passage is requested.
        """
        if self.head is None:
            for passage in passages:
                yield passage, self._model_logits(passage)
            return
        for passage, hidden in self.hidden_states(passages):
            yield passage, self._head_logits(hidden)

    def _head_logits(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        assert self.head is not None
        for start in range(0, len(hidden), LOGIT_ROWS):
            yield start, self.head.logits(hidden[start : start + LOGIT_ROWS])

    def _model_logits(self, passage: Passage) -> Iterator[tuple[int, Tensor]]:
        for start, logits in logits_along(self._loaded, passage.ids, passage.first_target):
            yield start - passage.first_target, logits

    def _batch_hidden_states(self, passages: Sequence[Passage]) -> Tensor:
        """Return the head's inputs, (R, longest - 1, H); the last token of a text predicts nothing."""
        width = max(len(passage.ids) for passage in passages) - 1
        ids = torch.zeros((len(passages), width), dtype=torch.long)
        for row, passage in enumerate(passages):
            ids[row, : len(passage.ids) - 1] = torch.tensor(passage.ids[:-1])
        ids = ids.to(self._loaded.device)
        model = self._loaded.model
        with capture_inputs(model.get_output_embeddings(), last_only=True) as inputs:
            if width <= _HIDDEN_SLICE:
                model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            else:
                for _ in read_in_slices(model, ids, [*range(0, width, _HIDDEN_SLICE), width]):
                    pass
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=1)


def _batches(passages: Sequence[Passage], device: str) -> Iterator[list[Passage]]:
    """Group neighbouring passages into batches; the sizes depend on nothing but the passages' lengths."""
    batch: list[Passage] = []
    longest = 0
    for passage in passages:
        longest = max(longest, len(passage.ids))
        single = not device.startswith("cuda") or longest > _HIDDEN_SLICE
        if batch and (single or longest * (len(batch) + 1) > _BATCH_TOKENS):
            yield batch
            batch, longest = [], len(passage.ids)
        batch.append(passage)
    if batch:
        yield batch
