"""The KGW watermark (Kirchenbauer et al. 2023, arXiv:2301.10226 and 2306.04634): green tokens get a bias.

Which tokens are green is a pseudo-random permutation of the vocabulary, seeded by the tokens before. As in
transformers, but always by the generator of the CPU: those of other devices permute otherwise, and a mark
made on one could not be detected on another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from harness.decoding.green_numpy import GreenTokens
from harness.decoding.texts import Texts

_CANDIDATES = 40
"""Of so many likeliest tokens `selfhash` asks whether each is green by itself, as its authors do."""

_KEPT_BYTES = 64 << 20
"""Of green lists that are kept, a byte a token of the vocabulary each."""


class GreenBias:
    """What the watermark adds to (R, V) logits."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` are the fields `kgw_...` of a strategy."""
        self._settings = tuple(settings.items())
        self._bias: float = settings["kgw_bias"]

    def __call__(self, texts: Texts, scores: Tensor) -> Tensor:
        """Return new scores; a text that is shorter than the context keeps its own."""
        lists = _green_lists(self._settings, scores.shape[1])
        width = lists.tokens.width
        ids = texts.ids[:, -width:].tolist()
        lengths = [length + texts.ids.shape[1] - texts.width for length in texts.prompt_tokens]
        likeliest: list[list[int]] = [[] for _ in ids]
        if lists.tokens.selfhash:
            likeliest = scores.topk(min(_CANDIDATES, scores.shape[1]), dim=-1).indices.tolist()
        nothing = torch.zeros(scores.shape[1], dtype=torch.bool)
        masks = [
            lists.after(own, few) if length >= width else nothing
            for own, few, length in zip(ids, likeliest, lengths, strict=True)
        ]
        green = torch.stack(masks).to(scores.device)
        return torch.where(green, scores + self._bias, scores)


class _GreenLists:
    """Green tokens as masks of the vocabulary, the latest of which are kept."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int) -> None:
        self.tokens = GreenTokens(settings, vocabulary)
        self._vocabulary = vocabulary
        self._generator = torch.Generator(device="cpu")
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def after(self, text: list[int], likeliest: list[int]) -> Tensor:
        """Return (V,) bool, the tokens that get a bias after a text; `selfhash` asks the likeliest only."""
        if not self.tokens.selfhash:
            return self._listed(self.tokens.seed_after(text[-1]))
        before = text[len(text) - self.tokens.width + 1 :]
        green = self.tokens.are_green([[*before, token] for token in likeliest])
        chosen = [token for token, yes in zip(likeliest, green, strict=True) if yes]
        found = torch.zeros(self._vocabulary, dtype=torch.bool)
        found[torch.tensor(chosen, dtype=torch.long)] = True
        return found

    def _listed(self, seed: int) -> Tensor:
        if seed in self._kept:
            self._kept.move_to_end(seed)
            return self._kept[seed]
        self._generator.manual_seed(seed)
        chosen = torch.randperm(self._vocabulary, generator=self._generator)[: self.tokens.size]
        found = torch.zeros(self._vocabulary, dtype=torch.bool)
        found[chosen] = True
        self._kept[seed] = found
        if len(self._kept) > max(1, _KEPT_BYTES // self._vocabulary):
            self._kept.popitem(last=False)
        return found


@lru_cache(maxsize=8)
def _green_lists(settings: tuple[tuple[str, Any], ...], vocabulary: int) -> _GreenLists:
    """Return the green lists of these settings, made once."""
    return _GreenLists(dict(settings), vocabulary)
