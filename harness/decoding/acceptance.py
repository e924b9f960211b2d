"""How likely a draft's token is the target's, when both draw with the same Gumbel noise."""

from __future__ import annotations

import torch
from torch import Tensor


def coupling_acceptance(p: Tensor, q: Tensor) -> Tensor:
    """Return (R,) the probability that both (R, V) distributions draw the same token with shared noise.

    sum_x 1 / sum_y max(p_y / p_x, q_y / q_x) (Daliri, Musco and Suresh 2024, arXiv:2408.07978). The maximum
    is p's ratio where q_y / p_y is at most q_x / p_x, so tokens are sorted by that.
    """
    p, q = p.double(), q.double()
    ratio = torch.where(p > 0, q / p, torch.where(q > 0, torch.inf, 0.0))
    order = ratio.argsort(-1)
    p, q = p.gather(-1, order), q.gather(-1, order)
    up_to = p.cumsum(-1)
    after = q.flip(-1).cumsum(-1).flip(-1) - q
    shared = (p > 0) & (q > 0)
    one = torch.ones_like(p)
    total = up_to / torch.where(shared, p, one) + after / torch.where(shared, q, one)
    return torch.where(shared, 1 / torch.where(shared, total, one), 0.0).sum(-1)


def overlap(p: Tensor, q: Tensor) -> Tensor:
    """Return (R,) 1 - TV of (R, V) distributions: what rejection sampling accepts, the most possible."""
    return torch.minimum(p.double(), q.double()).sum(-1)
