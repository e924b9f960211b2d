"""Rows of a search: each is a continuation of a text, and says at every step which row it goes on from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.backends.hf.forward import forward, forward_hidden, read_hidden
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.row_cache import row_cache, select_rows
from harness.backends.hf.wide_head import in_blocks
from harness.decoding.texts import Texts
from harness.models.load import LoadedModel


class SearchRows:
    """The rows of a model: their ids, mask, cache and logits.

    Attributes:
        width: padded length of the prompts.
        logits: (R, V) float32, of each row's next token.
        hidden: (R, N, H) the last hidden states of the N tokens that were read last; of all tokens of the
            prompts at first. None where they are not wanted.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: Sequence[Sequence[int]],
        *,
        pad: int,
        rows: int,
        new_tokens: int,
        use_cache: bool = True,
        wants_hidden: bool = False,
    ) -> None:
        """Prefill the prompts, a row each.

        Args:
            loaded: the model.
            prompts: ids of each text.
            pad: id that fills the left.
            rows: rows at most.
            new_tokens: steps at most.
            use_cache: False reads the whole text of each row by itself at every step, for models whose caches
                cannot be moved or whose batches cannot be padded.
            wants_hidden: hidden states are wanted too.
        """
        self._model, self._device, self._wants_hidden = loaded.model, loaded.device, wants_hidden
        inputs = pad_left(prompts, pad, self._device)
        self._ids, self._mask = inputs["input_ids"], inputs["attention_mask"]
        self.width = self._ids.shape[1]
        self._prompt_tokens = [len(ids) for ids in prompts]
        self.hidden: Tensor | None = None
        self._cache = row_cache(self._model.config, rows, self.width + new_tokens) if use_cache else None
        self._read(self._ids, (self._mask.cumsum(-1) - 1).clamp(min=0))

    @property
    def present(self) -> Tensor:
        """(R, S) bool, what is no padding."""
        return self._mask.bool()

    def texts(self, rows: Sequence[int]) -> Texts:
        """Return some of the rows as processors read them."""
        index = torch.tensor(rows, device=self._device)
        return Texts(self._ids[index], [self._prompt_tokens[row] for row in rows], self.width)

    def grow(self, parents: Sequence[int], tokens: Tensor) -> None:
        """Let row i go on from what row `parents[i]` was with `tokens[i]`, and compute all rows."""
        index = torch.tensor(parents, device=self._device)
        if self._cache is not None and list(parents) != list(range(len(self._prompt_tokens))):
            select_rows(self._cache, parents, self._device)
        new = tokens[:, None]
        self._ids = torch.cat([self._ids[index], new], dim=1)
        self._mask = torch.cat([self._mask[index], torch.ones_like(new)], dim=1)
        self._prompt_tokens = [self._prompt_tokens[parent] for parent in parents]
        step = self._ids.shape[1] - self.width
        last = torch.tensor([[length + step - 1] for length in self._prompt_tokens], device=self._device)
        self._read(new, last)

    def _read(self, ids: Tensor, positions: Tensor) -> None:
        """Read (R, N) more tokens at these positions, or everything again where there is no cache."""
        with in_blocks(self._model):
            if self._cache is None:
                self._read_apart(ids.shape[1])
            elif self._wants_hidden:
                self.logits, self.hidden = forward_hidden(
                    self._model, ids, self._mask, self._cache, position_ids=positions
                )
            else:
                logits, _ = forward(
                    self._model, ids, self._mask, self._cache, position_ids=positions, logits_to_keep=1
                )
                self.logits = logits[:, -1]

    def _read_apart(self, wanted: int) -> None:
        """Read each row by itself; keep the hidden states of the `wanted` last positions."""
        logits, hidden = [], []
        for ids, mask in zip(self._ids, self._mask, strict=True):
            of_last, states = read_hidden(self._model, ids[mask.bool()][None])
            logits.append(of_last)
            short = wanted - states.shape[1]
            hidden.append(torch.nn.functional.pad(states, (0, 0, max(short, 0), 0))[:, -wanted:])
        self.logits = torch.cat(logits)
        self.hidden = torch.cat(hidden) if self._wants_hidden else None
