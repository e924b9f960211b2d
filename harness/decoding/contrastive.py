"""Contrastive search: the likeliest next tokens compared by how much their hidden states repeat the text's.

Su et al. 2022 (arXiv:2202.06417): of the k likeliest tokens the one with the largest
(1 - alpha) p(v) - alpha max_j cos(h_v, h_j), h_j the last hidden states of all tokens so far, prompt
included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.decoding.sampler_chain import TruncatedLogits

_NEG_INF = float("-inf")


def candidates(logits: Tensor, count: int) -> TruncatedLogits:
    """Return the `count` likeliest tokens of each row of (R, V) logits, likeliest first."""
    values, tokens = logits.topk(min(count, logits.shape[1]), dim=-1)
    return TruncatedLogits(tokens, values)


def directions(hidden: Tensor) -> Tensor:
    """Return (..., H) hidden states as float32 vectors of length 1; float64 stays."""
    wide = hidden if hidden.dtype == torch.float64 else hidden.float()
    return torch.nn.functional.normalize(wide, dim=-1)


def largest_similarity(context: Tensor, present: Tensor, found: Tensor) -> Tensor:
    """Return (R, k) how near each candidate comes to what was there before: the largest cosine.

    Args:
        context: (R, S, H) directions of the tokens so far.
        present: (R, S) bool, which of them are no padding.
        found: (R, k, H) directions of the candidates.
    """
    cosines = found @ context.transpose(1, 2)
    return cosines.masked_fill(~present[:, None, :], _NEG_INF).amax(-1)


def contrastive_scores(p: Tensor, similarity: Tensor, alpha: float) -> Tensor:
    """Return (R, k) scores of candidates of probability `p` (R, k): the first of the largest is chosen."""
    return (1 - alpha) * p - alpha * similarity
