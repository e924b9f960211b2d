"""Quick forms of stock processors: truncations that look at the likeliest tokens only, where transformers
sorts the whole vocabulary, and a minimum length that costs nothing once it is reached.

Each keeps just what the stock one keeps, a truncation up to the rounding of a cumulative sum at its border;
where the first tokens do not settle that, the stock warper is asked. `quick` puts them into a stock list.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.generation import logits_process as stock

_FIRST = (64, 1024, 8192)
"""How many of the likeliest tokens are looked at, until they settle it."""

_NEG_INF = float("-inf")


def _firsts(scores: Tensor) -> list[int]:
    """How many tokens to look at. On an accelerator none: there a sort is cheap, asking if it is settled
    makes the host wait."""
    return [first for first in _FIRST if first < scores.shape[-1]] if scores.device.type == "cpu" else []


class QuickTopP:
    """Nucleus truncation (Holtzman et al. 2020, arXiv:1904.09751): a token stays while what is likelier
    than it holds less than `top_p` of the mass."""

    def __init__(self, warper: stock.TopPLogitsWarper) -> None:
        self._stock = warper

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask (R, V) scores."""
        total = scores.logsumexp(-1, keepdim=True)
        for first in _firsts(scores):
            values, tokens = scores.topk(first, dim=-1)
            p = (values - total).exp()
            stays = p.cumsum(-1) - p < self._stock.top_p
            stays[:, 0] = True
            if not bool(stays[:, -1].any()):
                kept = values.masked_fill(~stays, _NEG_INF)
                return torch.full_like(scores, _NEG_INF).scatter_(1, tokens, kept)
        return self._stock(input_ids, scores)  # type: ignore[arg-type]


class QuickTypical:
    """Locally typical truncation (Meister et al. 2023, arXiv:2202.00666): tokens whose information is
    nearest to the entropy, until they hold `typical_p` of the mass."""

    def __init__(self, warper: stock.TypicalLogitsWarper) -> None:
        self._stock = warper

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask (R, V) scores."""
        log_p = scores.log_softmax(-1)
        p = log_p.exp()
        entropy = -(log_p * p).nansum(-1, keepdim=True)
        distance = (-log_p - entropy).abs()
        for first in _firsts(scores):
            nearest, tokens = distance.topk(first, dim=-1, largest=False)
            last = (p.gather(1, tokens).cumsum(-1) < self._stock.mass).sum(-1, keepdim=True)
            if not bool((last >= first).any()):
                return scores.masked_fill(distance > nearest.gather(1, last), _NEG_INF)
        return self._stock(input_ids, scores)  # type: ignore[arg-type]


class QuickMinNewTokens:
    """No end-of-text before `min_new_tokens`: the stock processor finds its ids in the vocabulary anew at
    every step, and copies the scores when there is nothing left to do."""

    def __init__(self, processor: stock.MinNewTokensLengthLogitsProcessor) -> None:
        self._stock = processor
        self._ids: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask (R, V) scores; `scores` itself once there are enough tokens."""
        if input_ids.shape[1] - self._stock.prompt_length_to_skip >= self._stock.min_new_tokens:
            return scores
        if self._ids is None:
            ids = self._stock.eos_token_id
            self._ids = ids[ids < scores.shape[1]].to(scores.device)
        return scores.index_fill(1, self._ids, _NEG_INF)


def quick(processor: Any) -> Any:
    """The quick form of a stock processor that has one, else the processor itself."""
    if type(processor) is stock.TopPLogitsWarper and processor.min_tokens_to_keep == 1:
        return QuickTopP(processor)
    if type(processor) is stock.TypicalLogitsWarper and processor.min_tokens_to_keep == 1:
        return QuickTypical(processor)
    if type(processor) is stock.MinNewTokensLengthLogitsProcessor:
        return QuickMinNewTokens(processor)
    return processor
