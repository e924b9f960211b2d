"""How far one distribution is from another, token by token: the arithmetic of drift, a few rows at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 2**18
"""Entries that are worked on at once: they stay in the processor's cache."""
_BLOCK_CUDA = 2**24
_FAR = -60.0
"""Log ratios below this one leave float32's range when the exponential is taken of them."""
_NEG_INF = float("-inf")


@dataclass(frozen=True)
class Top:
    """A distribution of which only the likeliest tokens are known, a row each.

    Attributes:
        ids: (N, k) those tokens, likeliest first.
        logprobs: (N, k) float32.
        rest: (N,) float64, the probability of all others.
        rest_plogp: (N,) float64, their sum of p * log p.
        logprob, rank: (N,) of the token that came.
    """

    ids: Tensor
    logprobs: Tensor
    rest: Tensor
    rest_plogp: Tensor
    logprob: Tensor
    rank: Tensor

    def __getitem__(self, rows: slice) -> Top:
        return Top(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def top_of(logits: Tensor, tokens: Tensor, k: int) -> Top:
    """The `k` likeliest of (N, V) distributions, and what is needed of the rest."""
    parts = []
    for rows in _blocks(logits):
        log_p, token = logits[rows].log_softmax(-1), tokens[rows, None]
        logprob = log_p.gather(1, token)
        rank = (log_p > logprob).sum(-1) + 1
        top = log_p.topk(min(k, log_p.shape[1]), dim=-1)
        rest = log_p.scatter(1, top.indices, _NEG_INF).double()
        p = rest.exp()
        plogp = (p * rest.clamp(min=torch.finfo(torch.float64).min)).sum(-1)
        parts.append(Top(top.indices, top.values, p.sum(-1), plogp, logprob[:, 0], rank))
    return Top(**{name: torch.cat([getattr(p, name) for p in parts]) for name in Top.__dataclass_fields__})


def divergence(reference: Tensor | Top, logits: Tensor, tokens: Tensor, top_k: int) -> dict[str, Tensor]:
    """What is told of each position.

    Args:
        reference: (N, V) float32 logits, or what was kept of the distributions.
        logits: (N, V) float32, of the model that is held against it.
        tokens: (N,) the tokens that came.
        top_k: alternatives of the second model that are told.

    Returns:
        (N,) `logprob`, `rank`, `entropy` of the reference and `drift_logprob`, `drift_rank`, `drift_entropy`
        of the other; `same_top`; `margin`, the reference's likeliest less its second, as probabilities; `kl`
        (reference || other) and `kl_error`, how far it may be off; `total_variation`; and (N, k) `top_ids`,
        `top_logprobs` of the other. Nats. Of a reference that is known in part, KL is told as if the rest had
        the other's proportions, and total variation is the least that it can be.
    """
    parts = []
    for rows in _blocks(logits):
        tell = _partly_known if isinstance(reference, Top) else _known
        parts.append(tell(reference[rows], logits[rows], tokens[rows], top_k))  # type: ignore[arg-type]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _blocks(logits: Tensor) -> list[slice]:
    size = _BLOCK if logits.device.type == "cpu" else _BLOCK_CUDA
    step = max(1, size // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def _known(reference: Tensor, logits: Tensor, tokens: Tensor, top_k: int) -> dict[str, Tensor]:
    log_p, p = reference.log_softmax(-1), reference.softmax(-1)
    log_q, q = logits.log_softmax(-1), logits.softmax(-1)
    first = log_p.topk(2, dim=-1)
    two = first.values.exp()
    found = _of_one(log_q, q, tokens, top_k)
    logprob = log_p.gather(1, tokens[:, None])
    return found | {
        "logprob": logprob[:, 0],
        "rank": _rank(log_p, logprob, first.indices[:, 0], tokens),
        "entropy": _entropy(log_p, p),
        "margin": two[:, 0] - two[:, -1],
        "same_top": log_q.gather(1, first.indices[:, :1])[:, 0] == found.pop("most"),
        "kl": _kl(log_p, p, log_q),
        "kl_error": torch.zeros_like(logprob[:, 0], dtype=torch.float64),
        "total_variation": _total((p - q).abs_()) / 2,
    }


def _kl(log_p: Tensor, p: Tensor, log_q: Tensor) -> Tensor:
    """(N,) float64 KL(p || q).

    Of the sum of p * log(p / q), rounding leaves some 1e-7 of either sign, more than 16 bits change. Since p
    and q both sum to one, q - p may be added to each term: p * (d + exp(-d) - 1) with d = log(p / q) is never
    negative, and its rounding is in proportion to it.
    """
    gap = log_p - log_q
    far = gap.amin(-1) < _FAR
    terms = gap.neg().expm1_().add_(gap).mul_(p)
    kl = _total(terms)
    # A row with tokens that have no mass, or whose ratio leaves float32: it is done once more, in float64.
    again = (far | ~kl.isfinite()).nonzero()[:, 0]
    if len(again):
        lp, lq = (some[again].to(_wide(log_p)) for some in (log_p, log_q))
        exact = torch.where(lp == _NEG_INF, 0.0, lp.exp() * (lp - lq)).sum(-1)
        kl[again] = exact.clamp(min=0.0).to(kl.dtype)
    return kl


def _of_one(log_q: Tensor, q: Tensor, tokens: Tensor, top_k: int) -> dict[str, Tensor]:
    """What is told of the model that is held against the reference."""
    top = log_q.topk(min(max(1, top_k), log_q.shape[1]), dim=-1)
    logprob = log_q.gather(1, tokens[:, None])
    return {
        "most": top.values[:, 0],
        "drift_logprob": logprob[:, 0],
        "drift_rank": _rank(log_q, logprob, top.indices[:, 0], tokens),
        "drift_entropy": _entropy(log_q, q),
        "top_ids": top.indices[:, :top_k],
        "top_logprobs": top.values[:, :top_k],
    }


def _partly_known(reference: Top, logits: Tensor, tokens: Tensor, top_k: int) -> dict[str, Tensor]:
    """With the reference's rest known by its mass m and its sum s of p log p.

    What the rest adds to KL is s less the sum of p log q. That sum lies between m times the least and m times
    the largest log q there, and what is added is at least m log(m / Q), Q being q's own mass there (the
    log-sum inequality). Told is what it is if p has q's proportions; the farther bound is the error.
    """
    wide = _wide(logits)
    log_q, q = logits.log_softmax(-1), logits.softmax(-1)
    found = _of_one(log_q, q, tokens, top_k)
    top_p, log_p = reference.logprobs.to(wide).exp(), reference.logprobs.to(wide)
    top_log_q = log_q.gather(1, reference.ids).to(wide)
    known = (top_p * (log_p - top_log_q)).sum(-1)
    m, s = reference.rest.to(wide), reference.rest_plogp.to(wide)
    inside = torch.ones_like(log_q, dtype=torch.bool).scatter_(1, reference.ids, False)
    whole = reference.ids.shape[1] == log_q.shape[1]
    if whole:
        low = high = told = torch.zeros_like(known)
        q_rest = torch.zeros_like(known)
    else:
        least = log_q.masked_fill(~inside, math.inf).amin(-1).to(wide)
        most = log_q.masked_fill(~inside, _NEG_INF).amax(-1).to(wide)
        q_in = (q * inside).to(wide)
        q_rest = q_in.sum(-1).clamp(min=torch.finfo(torch.float32).tiny)
        mean = (q_in * log_q.to(wide).clamp(min=torch.finfo(torch.float32).min)).sum(-1) / q_rest
        high = torch.where(m > 0, s - m * least, 0.0)
        low = torch.maximum(s - m * most, torch.where(m > 0, m * (m / q_rest).log(), 0.0))
        low = torch.minimum(low, high)
        told = torch.minimum(torch.maximum(s - m * mean, low), high)
    top_q = top_log_q.exp()
    two = log_p[:, :2].exp()
    return found | {
        "logprob": reference.logprob,
        "rank": reference.rank,
        "entropy": -((top_p * log_p).sum(-1) + s),
        "margin": two[:, 0] - two[:, -1],
        "same_top": log_q.gather(1, reference.ids[:, :1])[:, 0] == found.pop("most"),
        "kl": (known + told).clamp(min=0.0),
        "kl_error": torch.maximum(high - told, told - low),
        "total_variation": ((top_p - top_q).abs().sum(-1) + (m - q_rest).abs()) / 2,
    }


def _rank(log_p: Tensor, logprob: Tensor, likeliest: Tensor, tokens: Tensor) -> Tensor:
    """(N,) 1 + how many tokens are strictly likelier than the one that came.

    On a CPU it is asked only where that one is not the likeliest. On a GPU asking
    which rows those are costs more than counting them all.
    """
    if log_p.device.type != "cpu":
        return (log_p > logprob).sum(-1) + 1
    rank = torch.ones(len(tokens), dtype=torch.long)
    rows = (likeliest != tokens).nonzero()[:, 0]
    if len(rows):
        rank[rows] = (log_p[rows] > logprob[rows]).sum(-1) + 1
    return rank


def _entropy(log_p: Tensor, p: Tensor) -> Tensor:
    """(N,) nats; a token without mass adds nothing."""
    entropy = -_total(p * log_p)
    lost = entropy.isnan().nonzero()[:, 0]
    if len(lost):
        entropy[lost] = -_total(p[lost] * log_p[lost].clamp(min=torch.finfo(log_p.dtype).min))
    return entropy


def _total(values: Tensor) -> Tensor:
    """(N,) the sum of each row, in float64 where the device has it."""
    return values.sum(-1, dtype=_wide(values))


def _wide(values: Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "mps" else torch.float64
