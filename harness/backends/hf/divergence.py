"""How far one distribution is from another, token by token: the arithmetic of drift, a few rows at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 2**19
"""Entries that are worked on at once: they stay in the processor's cache."""
_GROUP = 64
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
        some, token = logits[rows], tokens[rows, None]
        log_p, _ = distribution(some, torch.empty_like(some), torch.empty_like(some))
        logprob = log_p.gather(1, token)
        rank = (some > some.gather(1, token)).sum(-1) + 1
        top_ids = some.topk(min(k, some.shape[1]), dim=-1).indices
        rest = log_p.scatter(1, top_ids, _NEG_INF).double()
        p = rest.exp()
        plogp = (p * rest.clamp(min=torch.finfo(torch.float64).min)).sum(-1)
        parts.append(Top(top_ids, log_p.gather(1, top_ids), p.sum(-1), plogp, logprob[:, 0], rank))
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
    blocks = _blocks(logits)
    # Tensors of this size that come and go cost as much in fresh pages as in arithmetic.
    room = torch.empty((6, min(len(logits), blocks[0].stop), logits.shape[1]), device=logits.device)
    for rows in blocks:
        if isinstance(reference, Top):
            parts.append(_partly_known(reference[rows], logits[rows], tokens[rows], top_k))
        else:
            parts.append(_known(reference[rows], logits[rows], tokens[rows], top_k, room))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _blocks(logits: Tensor) -> list[slice]:
    size = _BLOCK if logits.device.type == "cpu" else _BLOCK_CUDA
    step = max(1, size // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def _known(reference: Tensor, logits: Tensor, tokens: Tensor, top_k: int, room: Tensor) -> dict[str, Tensor]:
    log_p, p, log_q, q, *spare = room[:, : len(logits)]
    distribution(reference, log_p, p)
    distribution(logits, log_q, q)
    largest, places = _topk(reference, 2)
    two = p.gather(1, places)
    found = _of_one(logits, log_q, q, tokens, top_k, spare[0])
    logprob = log_p.gather(1, tokens[:, None])
    return found | {
        "logprob": logprob[:, 0],
        "rank": _rank(reference, tokens, largest[:, :1], spare[0]),
        "entropy": _entropy(log_p, p, spare[0]),
        "margin": two[:, 0] - two[:, -1],
        # Of tokens that are equally likely any one is the top choice.
        "same_top": reference.gather(1, found.pop("likeliest"))[:, 0] == largest[:, 0],
        "kl": _kl(log_p, p, log_q, spare[0], spare[1]),
        "kl_error": torch.zeros_like(logprob[:, 0]),
        "total_variation": torch.sub(p, q, out=spare[0]).abs_().sum(-1) / 2,
    }


def distribution(logits: Tensor, log_p: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """log_softmax and softmax of (N, V) float32 logits, into `log_p` and `p`.

    On a CPU torch adds up a row's exponentials one after the other, which over 150,000 of them is off by
    1e-5. Here they are added in pairs, and the likeliest token's logprob tells all others'.
    """
    torch.softmax(logits, -1, out=p)
    p.div_(p.sum(-1, keepdim=True))
    largest = logits.amax(-1, keepdim=True) - p.amax(-1, keepdim=True).log()
    return torch.sub(logits, largest, out=log_p), p


def _kl(log_p: Tensor, p: Tensor, log_q: Tensor, gap: Tensor, terms: Tensor) -> Tensor:
    """(N,) KL(p || q); `gap` and `terms` are room to work in.

    Of the sum of p * log(p / q), rounding leaves some 1e-7 of either sign, more than 16 bits change. Since p
    and q both sum to one, q - p may be added to each term: p * (d + exp(-d) - 1) with d = log(p / q) is never
    negative, and its rounding is in proportion to it.
    """
    torch.sub(log_p, log_q, out=gap)
    torch.sub(log_q, log_p, out=terms)
    far = gap.amin(-1) < _FAR
    kl = terms.expm1_().add_(gap).mul_(p).sum(-1)
    # A row with tokens that have no mass, or whose ratio leaves float32: it is done once more, in float64.
    again = (far | ~kl.isfinite()).nonzero()[:, 0]
    if len(again):
        lp, lq = (some[again].to(_wide(log_p)) for some in (log_p, log_q))
        exact = torch.where(lp == _NEG_INF, 0.0, lp.exp() * (lp - lq)).sum(-1)
        kl[again] = exact.clamp(min=0.0).to(kl.dtype)
    return kl


def _of_one(
    logits: Tensor, log_q: Tensor, q: Tensor, tokens: Tensor, top_k: int, spare: Tensor
) -> dict[str, Tensor]:
    """What is told of the model that is held against the reference."""
    values, indices = _topk(logits, min(max(1, top_k), log_q.shape[1]))
    logprob = log_q.gather(1, tokens[:, None])
    return {
        "likeliest": indices[:, :1],
        "drift_logprob": logprob[:, 0],
        "drift_rank": _rank(logits, tokens, values[:, :1], spare),
        "drift_entropy": _entropy(log_q, q, spare),
        "top_ids": indices[:, :top_k],
        "top_logprobs": log_q.gather(1, indices[:, :top_k]),
    }


def _partly_known(reference: Top, logits: Tensor, tokens: Tensor, top_k: int) -> dict[str, Tensor]:
    """With the reference's rest known by its mass m and its sum s of p log p.

    What the rest adds to KL is s less the sum of p log q. That sum lies between m times the least and m times
    the largest log q there, and what is added is at least m log(m / Q), Q being q's own mass there (the
    log-sum inequality). Told is what it is if p has q's proportions; the farther bound is the error.
    """
    wide = _wide(logits)
    log_q, q = distribution(logits, torch.empty_like(logits), torch.empty_like(logits))
    found = _of_one(logits, log_q, q, tokens, top_k, torch.empty_like(q))
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
        "same_top": _same_top(reference, found.pop("likeliest")),
        "kl": (known + told).clamp(min=0.0),
        "kl_error": torch.maximum(high - told, told - low),
        "total_variation": ((top_p - top_q).abs().sum(-1) + (m - q_rest).abs()) / 2,
    }


def _same_top(reference: Top, likeliest: Tensor) -> Tensor:
    """(N,) whether the other's likeliest token, (N, 1), is a likeliest one of the reference."""
    best = reference.logprobs == reference.logprobs[:, :1]
    return ((reference.ids == likeliest) & best).any(-1)


def _topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest of each row, largest first, and where they are.

    They lie in the k groups whose largest values are largest, and those are found much faster on a CPU.
    """
    size = values.shape[1]
    groups = size // _GROUP
    if values.device.type != "cpu" or k * 8 > groups:
        top = values.topk(k, dim=-1)
        return top.values, top.indices
    largest = values[:, : groups * _GROUP].unflatten(1, (groups, _GROUP)).amax(-1)
    begin = largest.topk(k, dim=-1).indices * _GROUP
    places = (begin[:, :, None] + torch.arange(_GROUP)).flatten(1)
    rest = torch.arange(groups * _GROUP, size).expand(len(values), -1)
    places = torch.cat([places, rest], dim=1)
    top = values.gather(1, places).topk(k, dim=-1)
    return top.values, places.gather(1, top.indices)


def _rank(logits: Tensor, tokens: Tensor, most: Tensor, spare: Tensor) -> Tensor:
    """(N,) 1 + how many tokens are strictly likelier than the one that came.

    Asked of the logits: in log-probabilities, rounding makes ties. On a CPU it is asked only where that one
    is not the likeliest; on a GPU asking which rows those are costs more than counting them all.

    Args:
        logits: (N, V).
        tokens: (N,).
        most: (N, 1) the largest logits.
        spare: (N, V) room to work in.
    """
    own = logits.gather(1, tokens[:, None])
    if logits.device.type != "cpu":
        return (logits > own).sum(-1) + 1
    rank = torch.ones(len(logits), dtype=torch.long)
    rows = (own < most).nonzero()[:, 0]
    if len(rows):
        some = logits if len(rows) == len(logits) else logits[rows]
        # Ones and zeros as float32 are summed eight times as fast, and exactly up to 2^24 of them.
        rank[rows] += torch.gt(some, own[rows], out=spare[: len(rows)]).sum(-1).long()
    return rank


def _entropy(log_p: Tensor, p: Tensor, spare: Tensor) -> Tensor:
    """(N,) nats; a token without mass adds nothing. `spare` is (N, V) room to work in."""
    entropy = -torch.mul(p, log_p, out=spare).sum(-1)
    lost = entropy.isnan().nonzero()[:, 0]
    if len(lost):
        entropy[lost] = -(p[lost] * log_p[lost].clamp(min=torch.finfo(log_p.dtype).min)).sum(-1)
    return entropy


def _wide(values: Tensor) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if values.device.type == "mps" else torch.float64
