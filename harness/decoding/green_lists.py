"""The KGW watermark (Kirchenbauer et al. 2023, arXiv:2301.10226 and 2306.04634): green tokens get a bias.

Which tokens are green is a pseudo-random permutation of the vocabulary, seeded by the tokens before. As in
transformers, but always by the generator of the CPU: those of other devices permute otherwise, and a mark
made on one could not be detected on another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from harness.decoding.texts import Texts

_TABLE_SIZE = 1_000_003
_CANDIDATES = 40
"""Of so many likeliest tokens `selfhash` asks whether each is green by itself, as its authors do."""

_MOST_MEMBERS = 1 << 18
"""Tokens of which is remembered whether they are green by `selfhash`."""

_KEPT_BYTES = 64 << 20
"""Of green lists that are kept, a byte a token of the vocabulary each."""


class GreenLists:
    """The green tokens after a context, by transformers' definition."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int) -> None:
        """`settings` are the fields `kgw_...` of a strategy."""
        self._key: int = settings["kgw_hashing_key"]
        self._selfhash = settings["kgw_seeding_scheme"] == "selfhash"
        self._width: int = settings["kgw_context_width"]
        self._vocabulary = vocabulary
        self.size = int(vocabulary * settings["kgw_greenlist_ratio"])
        self._generator = torch.Generator(device="cpu")
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._members: dict[tuple[int, int], bool] = {}
        self._most_kept = max(1, _KEPT_BYTES // vocabulary)

    @property
    def window(self) -> int:
        """The tokens that decide whether the last of them is green."""
        return self._width + (0 if self._selfhash else 1)

    def _own_seeds(self, windows: Tensor) -> list[int]:
        """Return the seeds of `selfhash`; (N, width) windows end with the tokens in question."""
        table = _table(self._key)
        a = table[windows % _TABLE_SIZE] + 1
        found: list[int] = (self._key * a * a[:, -1:]).amin(1).tolist()
        return found

    def green(self, seed: int) -> Tensor:
        """Return (V,) bool on the CPU."""
        if seed in self._kept:
            self._kept.move_to_end(seed)
            return self._kept[seed]
        found = self._kept[seed] = self._listed(seed)
        if len(self._kept) > self._most_kept:
            self._kept.popitem(last=False)
        return found

    def _listed(self, seed: int) -> Tensor:
        self._generator.manual_seed(seed % (2**64 - 1))
        chosen = torch.randperm(self._vocabulary, generator=self._generator)[: self.size]
        found = torch.zeros(self._vocabulary, dtype=torch.bool)
        found[chosen] = True
        return found

    def after(self, text: Sequence[int], likeliest: Sequence[int] = ()) -> Tensor:
        """Return (V,) bool, the tokens that get a bias after a text; `selfhash` asks the likeliest only."""
        if not self._selfhash:
            return self.green(self._key * text[-1])
        found = torch.zeros(self._vocabulary, dtype=torch.bool)
        before = text[len(text) - self._width + 1 :]
        seeds = self._own_seeds(torch.tensor([[*before, token] for token in likeliest]))
        chosen = [token for token, seed in zip(likeliest, seeds, strict=True) if self._has(seed, token)]
        found[torch.tensor(chosen, dtype=torch.long)] = True
        return found

    def is_green(self, window: Sequence[int]) -> bool:
        """Return whether the last token of a window is green after those before it."""
        if self._selfhash:
            return self._has(self._own_seeds(torch.tensor([window]))[0], window[-1])
        return bool(self.green(self._key * window[-2])[window[-1]])

    def _has(self, seed: int, token: int) -> bool:
        """Return whether a token is in the list of a seed, most of which are asked for a single one."""
        if (seed, token) not in self._members:
            if len(self._members) >= _MOST_MEMBERS:
                self._members.clear()
            self._members[seed, token] = bool(self._listed(seed)[token])
        return self._members[seed, token]


class GreenBias:
    """What the watermark adds to (R, V) logits."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` are the fields `kgw_...` of a strategy."""
        self._settings = dict(settings)
        self._bias: float = settings["kgw_bias"]
        self._width: int = settings["kgw_context_width"]
        self._selfhash = settings["kgw_seeding_scheme"] == "selfhash"

    def __call__(self, texts: Texts, scores: Tensor) -> Tensor:
        """Return new scores; a text that is shorter than the context keeps its own."""
        lists = green_lists(tuple(self._settings.items()), scores.shape[1])
        columns = max(self._width, 1)
        ids = texts.ids[:, -columns:].tolist()
        lengths = [length + texts.ids.shape[1] - texts.width for length in texts.prompt_tokens]
        likeliest: list[list[int]] = [[] for _ in ids]
        if self._selfhash:
            likeliest = scores.topk(min(_CANDIDATES, scores.shape[1]), dim=-1).indices.tolist()
        nothing = torch.zeros(scores.shape[1], dtype=torch.bool)
        masks = [
            lists.after(own, few) if length >= self._width else nothing
            for own, few, length in zip(ids, likeliest, lengths, strict=True)
        ]
        green = torch.stack(masks).to(scores.device)
        return torch.where(green, scores + self._bias, scores)


@lru_cache(maxsize=8)
def green_lists(settings: tuple[tuple[str, Any], ...], vocabulary: int) -> GreenLists:
    """Return the green lists of these settings, made once for a strategy and its detector."""
    return GreenLists(dict(settings), vocabulary)


@lru_cache(maxsize=2)
def _table(key: int) -> Tensor:
    """Return the permutation by which `selfhash` hashes token ids."""
    return torch.randperm(_TABLE_SIZE, generator=torch.Generator(device="cpu").manual_seed(key))
