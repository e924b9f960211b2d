"""Rows of a batch that grow by a token a step, split where texts differ, and vanish with the last one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.backends.hf.cuda_graphs import StaticSteps
from harness.backends.hf.forward import CachedForward, forward
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.row_cache import row_cache, select_rows
from harness.backends.hf.shared_prefix import PromptRows, attention_over, can_share, share_prompts
from harness.backends.hf.wide_head import LogitsBuffer
from harness.decoding.upload import on_device
from harness.models.load import LoadedModel


@dataclass
class Member:
    """A text on a row of a batch; texts on one row have the same tokens so far, and the same `key`."""

    row: int
    key: int


class RowBatch:
    """The rows of one model: their ids, mask, cache and logits, and the texts on them.

    Attributes:
        members: one a prompt, in their order.
        ids: (R, S) of the rows, padded on the left to `width`.
        prompt_tokens: tokens of each row's prompt, without padding.
        logits: (R, V) float32, of each row's next token; the next step may write over them.
        hidden: (R, L, H) the hidden states of the last position after `layers`; None without any.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: Sequence[tuple[tuple[int, ...], int]],
        *,
        pad: int,
        new_tokens: int,
        static_steps: StaticSteps | None = None,
        layers: tuple[int, ...] = (),
        share_prefix: bool = False,
        windows: bool = False,
    ) -> None:
        """Prefill each distinct prompt once.

        Args:
            loaded: the model.
            prompts: ids and key of each text; those with the same ids and key share a row.
            pad: id that fills the left.
            new_tokens: steps at most.
            static_steps: run the steps through its buffers, as CUDA graphs where there is CUDA, if all layers
                of the cache can be in buffers.
            layers: whose hidden states are wanted, 0 for the embeddings.
            share_prefix: keep and read the keys and values of a prompt once for all of its rows, where the
                model's cache allows it; not with `static_steps`.
            windows: leave sliding windows to transformers' cache, also those that no text reaches.
        """
        self._model, self._device, self._layers = loaded.model, loaded.device, layers
        row_of: dict[tuple[tuple[int, ...], int], int] = {}
        self.members = [Member(row_of.setdefault(one, len(row_of)), one[1]) for one in prompts]
        distinct = [ids for ids, _ in row_of]
        self.prompt_tokens = [len(ids) for ids in distinct]
        inputs = pad_left(distinct, pad, self._device)
        self.ids, self._mask = inputs["input_ids"], inputs["attention_mask"]
        self.width = self.ids.shape[1]
        room = (len(prompts), self.width + new_tokens)
        self._shared = 0
        self._runner = None if static_steps is None else static_steps.runner(loaded, layers, *room)
        if self._runner is not None:
            self._forward = self._runner.forward
        else:
            cache = row_cache(self._model.config, *room, windows=windows)
            if share_prefix and static_steps is None and can_share(self._model, cache):
                self._shared = len(distinct)
                cache = row_cache(self._model.config, len(distinct), self.width)
            self._forward = CachedForward(self._model, cache, layers, LogitsBuffer(len(prompts)))
        self._cache = self._forward.cache
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        # Hidden states of a whole prompt take much memory: only those of its last token are asked for.
        start = self.width - 1 if layers else 0
        if start:
            before = slice(None, start)
            forward(
                self._model, self.ids[:, before], self._mask[:, before], self._cache,
                position_ids=positions[:, before], logits_to_keep=1,
            )  # fmt: skip
        self._read(self._forward(self.ids[:, start:], self._mask, positions[:, start:]))
        self._prompts = list(range(len(distinct)))
        if self._shared:
            share_prompts(self._cache, len(prompts), new_tokens)

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def advance(self, members: Sequence[Member], tokens: Sequence[int]) -> None:
        """Put each text on the row of the token it chose: split and remove rows, and compute them.

        A row's first continuation stays where it is; splits and the last rows fill the free rows, so that few
        rows are copied.
        """
        children: dict[tuple[int, int, int], list[Member]] = {}
        for member, token in zip(members, tokens, strict=True):
            children.setdefault((member.row, token, member.key), []).append(member)
        slots: list[tuple[int, int, int] | None] = [None] * len(children)
        displaced = []
        for child in children:
            parent = child[0]
            if parent < len(slots) and slots[parent] is None:
                slots[parent] = child
            else:
                displaced.append(child)
        rest = iter(displaced)
        rows = [child if child is not None else next(rest) for child in slots]
        for row, child in enumerate(rows):
            for member in children[child]:
                member.row = row
        parents = [parent for parent, _, _ in rows]
        new = on_device([[token] for _, token, _ in rows], self._device)
        if parents != list(range(len(self.prompt_tokens))):
            if self._runner is not None:
                self._runner.select(parents)
            else:
                select_rows(self._cache, parents, self._device)
            index = on_device(parents, self._device)
            self.ids, self._mask = self.ids[index], self._mask[index]
            self.prompt_tokens = [self.prompt_tokens[parent] for parent in parents]
            self._prompts = [self._prompts[parent] for parent in parents]
        step = self.ids.shape[1] - self.width
        self.ids = torch.cat([self.ids, new], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(new)], dim=1)
        positions = on_device([[length + step] for length in self.prompt_tokens], self._device)
        with self._attention():
            self._read((self._runner or self._forward)(new, self._mask, positions))

    def _attention(self) -> AbstractContextManager[None]:
        if not self._shared:
            return nullcontext()
        rows = PromptRows.of(self._prompts, self._shared, self._device)
        return attention_over(self._model, self._cache, rows)

    def _read(self, outputs: tuple[Tensor, ...]) -> None:
        self.logits = outputs[0]
        self.hidden = outputs[1] if self._layers else None
