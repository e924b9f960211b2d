"""Teacher forcing: the hidden states, and the logits, of a model along texts that are already there.

A text is read by itself on a CPU, and together with its neighbours, padded on the right, on a GPU; what is
padded comes after all that is read, so that nothing sees it. A long text is read in slices with the cache
kept, and the head works on a few positions at a time: no more logits are ever held than of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.backends.hf.forward import forward
from harness.backends.hf.output_head import captured, find_head
from harness.backends.hf.rescore import logits_along
from harness.prompts.passages import Passage

if TYPE_CHECKING:
    from harness.models.load import LoadedModel

ROWS = 128
"""Positions of which logits are held at once."""
_SLICE = 512
_TOKENS_TOGETHER = 4096


class Reader:
    """Reads passages with a loaded model."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.head = find_head(loaded.model)

    @torch.inference_mode()
    def hidden(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, Tensor]]:
        """What enters the head where each token told is predicted: (tokens told, H) of each passage.

        Raises:
            TypeError: the model's head cannot be told from the rest of it.
        """
        if self.head is None:
            raise TypeError(f"the head of {type(self._loaded.model).__name__} cannot be told from the rest")
        for some in _together(passages, self._loaded.device):
            states = self._states(some)
            for row, passage in enumerate(some):
                yield passage, states[row, passage.first_target - 1 : len(passage.ids) - 1]

    @torch.inference_mode()
    def logits(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, Iterator[tuple[int, Tensor]]]]:
        """Of each passage its logits, some positions at a time.

        Yields:
            (passage, some): of `some`, (start, logits): `logits[i]` (float32, (V,)) predicts the token told
            at `start + i`. Each is read before the next passage is asked for.
        """
        if self.head is None:
            for passage in passages:
                yield passage, self._in_slices(passage)
            return
        for passage, hidden in self.hidden(passages):
            yield passage, self._of_hidden(hidden)

    def _of_hidden(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        assert self.head is not None
        for start in range(0, len(hidden), ROWS):
            yield start, self.head.logits(hidden[start : start + ROWS])

    def _in_slices(self, passage: Passage) -> Iterator[tuple[int, Tensor]]:
        for start, logits in logits_along(self._loaded, passage.ids, passage.first_target):
            yield start - passage.first_target, logits

    def _states(self, passages: Sequence[Passage]) -> Tensor:
        """(R, longest - 1, H) of what enters the head; a last token predicts nothing that is told."""
        width = max(len(passage.ids) for passage in passages) - 1
        ids = torch.zeros((len(passages), width), dtype=torch.long)
        for row, passage in enumerate(passages):
            ids[row, : len(passage.ids) - 1] = torch.tensor(passage.ids[:-1])
        ids = ids.to(self._loaded.device)
        model = self._loaded.model
        with captured(model.get_output_embeddings(), last_only=True) as seen:
            if width <= _SLICE:
                model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            else:
                cache = None
                for start in range(0, width, _SLICE):
                    part = ids[:, start : start + _SLICE]
                    mask = torch.ones_like(ids[:, : start + part.shape[1]])
                    _, cache = forward(model, part, mask, cache)
        return seen.inputs[0] if len(seen.inputs) == 1 else torch.cat(seen.inputs, dim=1)


def _together(passages: Sequence[Passage], device: str) -> Iterator[list[Passage]]:
    """Neighbours that are read at once: their number hangs on nothing but their lengths."""
    some: list[Passage] = []
    widest = 0
    for passage in passages:
        widest = max(widest, len(passage.ids))
        alone = not device.startswith("cuda") or widest > _SLICE
        if some and (alone or widest * (len(some) + 1) > _TOKENS_TOGETHER):
            yield some
            some, widest = [], len(passage.ids)
        some.append(passage)
    if some:
        yield some
