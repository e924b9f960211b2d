"""Teacher forcing: the hidden states and logits of a model along texts that exist already.

A text is read in one pass without a cache, which is right for every model: some forget what they have read
where several tokens are added to a cache at once. On a CPU a text is read by itself; on a GPU neighbouring
texts are read as one batch, padded on the right. Logits exist for a few positions at a time only, where the
model's head is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harness.backends.hf.forward import read_texts
from harness.backends.hf.output_head import OutputHead, capture_inputs, find_head
from harness.backends.steps.finite import check_finite
from harness.models.load import LoadedModel
from harness.prompts.passages import Passage

LOGIT_ROWS = 128
"""Most positions whose logits are computed from hidden states at once."""
_LONG = 512
"""Texts longer than this are read by themselves."""
_BATCH_TOKENS = 4096

_HEADS: WeakKeyDictionary[Any, OutputHead | None] = WeakKeyDictionary()


def head_of(loaded: LoadedModel) -> OutputHead | None:
    """Return a model's head as `find_head` does, found once a model."""
    if loaded.model not in _HEADS:
        _HEADS[loaded.model] = find_head(loaded.model, loaded.device)
    return _HEADS[loaded.model]


@torch.inference_mode()
def logits_along(loaded: LoadedModel, ids: Sequence[int], first: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (start, logits) a slice at a time: `logits[i]` (float32, (V,)) predicts `ids[start + i]`.

    Of the tokens before `first` there are none.

    Raises:
        HarnessError: a logit is not finite.
    """
    if first >= len(ids):
        return
    head = head_of(loaded)
    text = torch.tensor([list(ids[:-1])], device=loaded.device)
    if head is None:
        logits = read_texts(loaded.model, text, len(ids) - first)[0, first - len(ids) :].float()
        slices = iter(logits.split(LOGIT_ROWS))
    else:
        slices = _head_logits(head, _hidden_states(loaded.model, text)[0, first - 1 :])
    start = first
    for logits in slices:
        check_finite(logits, loaded, f"token {start}")
        yield start, logits
        start += len(logits)


def _hidden_states(model: Any, ids: Tensor) -> Tensor:
    """Return the inputs of the model's head along (R, N) texts, (R, N, H)."""
    with capture_inputs(model.get_output_embeddings(), last_only=True) as inputs:
        read_texts(model, ids)
    return inputs[0].to(ids.device)


def _head_logits(head: OutputHead, hidden: Tensor) -> Iterator[Tensor]:
    return map(head.logits, hidden.split(LOGIT_ROWS))


class TeacherForcing:
    """Reads passages with a loaded model; `head` is None if logits do not follow from its input."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.head = head_of(loaded)

    @torch.inference_mode()
    def hidden_states(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, Tensor]]:
        """Yield each passage with the head's inputs that predict its scored tokens, (scored tokens, H).

        Raises:
            HarnessError: one of them is not finite.
        """
        for batch in _batches(passages, self._loaded.device):
            hidden = self._batch_hidden_states(batch)
            for row, passage in enumerate(batch):
                scored = hidden[row, passage.first_target - 1 : len(passage.ids) - 1]
                check_finite(scored.abs(), self._loaded, _name(passage))
                yield passage, scored

    @torch.inference_mode()
    def logits(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, Iterator[tuple[int, Tensor]]]]:
        """Yield each passage with slices (start, logits) of its scored tokens, a few positions at a time.

        `logits[i]` (float32, (V,)) predicts the scored token `start + i`. Consume a passage's slices before
        the next passage is requested.

        Raises:
            HarnessError: a logit is not finite.
        """
        if self.head is None:
            for passage in passages:
                slices = logits_along(self._loaded, passage.ids, passage.first_target)
                yield passage, ((start - passage.first_target, logits) for start, logits in slices)
            return
        for passage, hidden in self.hidden_states(passages):
            yield passage, self._slices(passage, _head_logits(self.head, hidden))

    def _slices(self, passage: Passage, slices: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
        start = 0
        for logits in slices:
            check_finite(logits, self._loaded, _name(passage))
            yield start, logits
            start += len(logits)

    def _batch_hidden_states(self, passages: Sequence[Passage]) -> Tensor:
        """Return the head's inputs, (R, longest - 1, H); the last token of a text predicts nothing."""
        width = max(len(passage.ids) for passage in passages) - 1
        ids = torch.zeros((len(passages), width), dtype=torch.long)
        for row, passage in enumerate(passages):
            ids[row, : len(passage.ids) - 1] = torch.tensor(passage.ids[:-1])
        return _hidden_states(self._loaded.model, ids.to(self._loaded.device))


def _name(passage: Passage) -> str:
    return f"text {passage.prompt_id}, sample {passage.sample}"


def _batches(passages: Sequence[Passage], device: str) -> Iterator[list[Passage]]:
    """Group neighbouring passages into batches; the sizes depend on nothing but the passages' lengths."""
    batch: list[Passage] = []
    longest = 0
    for passage in passages:
        longest = max(longest, len(passage.ids))
        single = not device.startswith("cuda") or longest > _LONG
        if batch and (single or longest * (len(batch) + 1) > _BATCH_TOKENS):
            yield batch
            batch, longest = [], len(passage.ids)
        batch.append(passage)
    if batch:
        yield batch
