"""Per-token comparison of two distributions: the arithmetic of drift, a block of rows at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

_BLOCK = 2**19
"""Logits per block on a CPU: they stay in the processor's cache."""
_BLOCK_GPU = 2**24
_GROUP = 64
_MIN_LOG_RATIO = -60.0
"""The exponential of log ratios below this leaves float32's range."""
_NEG_INF = float("-inf")


@dataclass(frozen=True)
class TopTokens:
    """Distributions reduced to their likeliest tokens, one per row; the field names are those of the files.

    Attributes:
        ids: (N, k) the likeliest tokens, likeliest first.
        logprobs: (N, k) float32.
        rest: (N,) float64, the probability of all other tokens.
        rest_plogp: (N,) float64, the sum of p log p over all other tokens.
        logprob, rank: (N,) of the token at this position of the text.
    """

    ids: Tensor
    logprobs: Tensor
    rest: Tensor
    rest_plogp: Tensor
    logprob: Tensor
    rank: Tensor

    def columns(self) -> dict[str, Tensor]:
        """Return the tensors by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __getitem__(self, rows: slice) -> TopTokens:
        """Return some of the rows."""
        return TopTokens(**{name: column[rows] for name, column in self.columns().items()})


def top_tokens(logits: Tensor, tokens: Tensor, k: int) -> TopTokens:
    """Reduce (N, V) float32 logits to `k` likeliest tokens a row; `tokens` (N,) are those of the text."""
    blocks = []
    for rows in _blocks(logits):
        block, token = logits[rows], tokens[rows, None]
        log_p, _ = softmax_into(block, torch.empty_like(block), torch.empty_like(block))
        logprob = log_p.gather(1, token)
        rank = (block > block.gather(1, token)).sum(-1) + 1
        top_ids = block.topk(min(k, block.shape[1]), dim=-1).indices
        rest = log_p.scatter(1, top_ids, _NEG_INF).double()
        p = rest.exp()
        plogp = (p * rest.clamp(min=torch.finfo(torch.float64).min)).sum(-1)
        top = TopTokens(top_ids, log_p.gather(1, top_ids), p.sum(-1), plogp, logprob[:, 0], rank)
        blocks.append(top.columns())
    return TopTokens(**_concatenated(blocks))


def divergence(
    reference: Tensor | TopTokens, logits: Tensor, tokens: Tensor, top_k: int
) -> dict[str, Tensor]:
    """Compare (N, V) float32 logits of a model with those of a reference, or with its likeliest tokens.

    Args:
        reference: the reference's distributions, position by position.
        logits: of the model that is compared with the reference.
        tokens: (N,) the token at each position of the text.
        top_k: likeliest tokens of the model to return.

    Returns:
        (N,) `logprob`, `rank`, `entropy` of the reference and `drift_logprob`, `drift_rank`, `drift_entropy`
        of the model; `same_top`, whether the model's likeliest token is a likeliest one of the reference;
        `margin`, the reference's largest probability less its second; `kl`, KL(reference || model), and a
        bound on its error, `kl_error`; `total_variation`; and (N, k) `top_ids`, `top_logprobs` of the model.
        In nats. If only the likeliest tokens of the reference are known, KL is an estimate that gives the
        other tokens the model's proportions, and total variation is a lower bound.
    """
    columns = []
    blocks = _blocks(logits)
    # Allocating tensors of this size for each block would cost as much in page faults as the arithmetic does.
    buffers = torch.empty((6, min(len(logits), blocks[0].stop), logits.shape[1]), device=logits.device)
    for rows in blocks:
        if isinstance(reference, TopTokens):
            columns.append(_compare_with_top(reference[rows], logits[rows], tokens[rows], top_k))
        else:
            columns.append(_compare(reference[rows], logits[rows], tokens[rows], top_k, buffers))
    return _concatenated(columns)


def _concatenated(blocks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def _blocks(logits: Tensor) -> list[slice]:
    size = _BLOCK if logits.device.type == "cpu" else _BLOCK_GPU
    step = max(1, size // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def _compare(
    reference: Tensor, logits: Tensor, tokens: Tensor, top_k: int, buffers: Tensor
) -> dict[str, Tensor]:
    """Compare distributions of which both are completely known; `buffers` is (6, N or more, V)."""
    log_p, p, log_q, q, *scratch = buffers[:, : len(logits)]
    softmax_into(reference, log_p, p)
    softmax_into(logits, log_q, q)
    largest, top_ids = _topk(reference, 2)
    top_p = p.gather(1, top_ids)
    model = _model_columns(logits, log_q, q, tokens, top_k, scratch[0])
    logprob = log_p.gather(1, tokens[:, None])
    return model | {
        "logprob": logprob[:, 0],
        "rank": _rank(reference, tokens, largest[:, :1], scratch[0]),
        "entropy": _entropy(log_p, p, scratch[0]),
        "margin": top_p[:, 0] - top_p[:, -1],
        # Of tokens that are equally likely any one is the top choice.
        "same_top": reference.gather(1, model.pop("likeliest"))[:, 0] == largest[:, 0],
        "kl": _kl(log_p, p, log_q, scratch[0], scratch[1]),
        "kl_error": torch.zeros_like(logprob[:, 0]),
        "total_variation": torch.sub(p, q, out=scratch[0]).abs_().sum(-1) / 2,
    }


def softmax_into(logits: Tensor, log_p: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Write log_softmax and softmax of (N, V) float32 logits into `log_p` and `p`, and return both.

    On a CPU torch adds up a row's exponentials one after the other, which over 150,000 of them is off by
    1e-5. Here they are summed pairwise, and all logprobs follow from that of the likeliest token.
    """
    torch.softmax(logits, -1, out=p)
    p.div_(p.sum(-1, keepdim=True))
    log_total = logits.amax(-1, keepdim=True) - p.amax(-1, keepdim=True).log()
    return torch.sub(logits, log_total, out=log_p), p


def _kl(log_p: Tensor, p: Tensor, log_q: Tensor, log_ratio: Tensor, terms: Tensor) -> Tensor:
    """Return (N,) KL(p || q); `log_ratio` and `terms` are (N, V) scratch buffers.

    Of the sum of p * log(p / q), rounding leaves some 1e-7 of either sign, more than 16 bits change. Since p
    and q both sum to one, q - p may be added to each term: p * (d + exp(-d) - 1) with d = log(p / q) is never
    negative, and its rounding is in proportion to it.
    """
    torch.sub(log_p, log_q, out=log_ratio)
    torch.sub(log_q, log_p, out=terms)
    out_of_range = log_ratio.amin(-1) < _MIN_LOG_RATIO
    kl = terms.expm1_().add_(log_ratio).mul_(p).sum(-1)
    # Rows with tokens of no probability, or with a ratio outside float32's range, are computed in float64.
    again = (out_of_range | ~kl.isfinite()).nonzero()[:, 0]
    if len(again):
        lp, lq = (rows[again].to(_widest_dtype(log_p)) for rows in (log_p, log_q))
        exact = torch.where(lp == _NEG_INF, 0.0, lp.exp() * (lp - lq)).sum(-1)
        kl[again] = exact.clamp(min=0.0).to(kl.dtype)
    return kl


def _model_columns(
    logits: Tensor, log_q: Tensor, q: Tensor, tokens: Tensor, top_k: int, scratch: Tensor
) -> dict[str, Tensor]:
    """Return the columns of the model alone, and its `likeliest` token, (N, 1)."""
    values, indices = _topk(logits, min(max(1, top_k), log_q.shape[1]))
    logprob = log_q.gather(1, tokens[:, None])
    return {
        "likeliest": indices[:, :1],
        "drift_logprob": logprob[:, 0],
        "drift_rank": _rank(logits, tokens, values[:, :1], scratch),
        "drift_entropy": _entropy(log_q, q, scratch),
        "top_ids": indices[:, :top_k],
        "top_logprobs": log_q.gather(1, indices[:, :top_k]),
    }


def _compare_with_top(reference: TopTokens, logits: Tensor, tokens: Tensor, top_k: int) -> dict[str, Tensor]:
    """Compare with a reference whose unlisted tokens are known by their mass m and their sum s of p log p.

    The unlisted tokens add s - sum of p log q to KL. That sum lies between m times the least and m times the
    largest log q among them, and what they add is at least m log(m / Q), Q being q's mass there (the log-sum
    inequality). The estimate gives p the proportions of q; its error is the distance to the farther bound.
    """
    wide = _widest_dtype(logits)
    log_q, q = softmax_into(logits, torch.empty_like(logits), torch.empty_like(logits))
    model = _model_columns(logits, log_q, q, tokens, top_k, torch.empty_like(q))
    top_p, log_p = reference.logprobs.to(wide).exp(), reference.logprobs.to(wide)
    top_log_q = log_q.gather(1, reference.ids).to(wide)
    top_kl = (top_p * (log_p - top_log_q)).sum(-1)
    m, s = reference.rest.to(wide), reference.rest_plogp.to(wide)
    if reference.ids.shape[1] == log_q.shape[1]:
        low = high = estimate = q_rest = torch.zeros_like(top_kl)
    else:
        unlisted = torch.ones_like(log_q, dtype=torch.bool).scatter_(1, reference.ids, False)
        min_log_q = log_q.masked_fill(~unlisted, math.inf).amin(-1).to(wide)
        max_log_q = log_q.masked_fill(~unlisted, _NEG_INF).amax(-1).to(wide)
        q_unlisted = (q * unlisted).to(wide)
        q_rest = q_unlisted.sum(-1).clamp(min=torch.finfo(torch.float32).tiny)
        mean = (q_unlisted * log_q.to(wide).clamp(min=torch.finfo(torch.float32).min)).sum(-1) / q_rest
        high = torch.where(m > 0, s - m * min_log_q, 0.0)
        low = torch.maximum(s - m * max_log_q, torch.where(m > 0, m * (m / q_rest).log(), 0.0))
        low = torch.minimum(low, high)
        estimate = torch.minimum(torch.maximum(s - m * mean, low), high)
    top_q = top_log_q.exp()
    top_2 = log_p[:, :2].exp()
    likeliest = reference.logprobs == reference.logprobs[:, :1]
    return model | {
        "logprob": reference.logprob,
        "rank": reference.rank,
        "entropy": -((top_p * log_p).sum(-1) + s),
        "margin": top_2[:, 0] - top_2[:, -1],
        "same_top": ((reference.ids == model.pop("likeliest")) & likeliest).any(-1),
        "kl": (top_kl + estimate).clamp(min=0.0),
        "kl_error": torch.maximum(high - estimate, estimate - low),
        "total_variation": ((top_p - top_q).abs().sum(-1) + (m - q_rest).abs()) / 2,
    }


def _topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest values of each row, largest first, and their indices.

    They lie in the k groups whose largest values are largest, and on a CPU groups are found much faster.
    """
    size = values.shape[1]
    groups = size // _GROUP
    if values.device.type != "cpu" or k * 8 > groups:
        top = values.topk(k, dim=-1)
        return top.values, top.indices
    group_max = values[:, : groups * _GROUP].unflatten(1, (groups, _GROUP)).amax(-1)
    starts = group_max.topk(k, dim=-1).indices * _GROUP
    candidates = (starts[:, :, None] + torch.arange(_GROUP)).flatten(1)
    remainder = torch.arange(groups * _GROUP, size).expand(len(values), -1)
    candidates = torch.cat([candidates, remainder], dim=1)
    top = values.gather(1, candidates).topk(k, dim=-1)
    return top.values, candidates.gather(1, top.indices)


def _rank(logits: Tensor, tokens: Tensor, largest: Tensor, scratch: Tensor) -> Tensor:
    """Return (N,) 1 + how many tokens are strictly likelier than the token at each position.

    (N, V) logits are compared, since the rounding of logprobs makes ties. On a CPU tokens are counted only
    where the token is not the likeliest, whose logit is `largest` (N, 1); on a GPU finding those rows costs
    more than counting in all of them. `scratch` is an (N, V) buffer.
    """
    token_logit = logits.gather(1, tokens[:, None])
    if logits.device.type != "cpu":
        return (logits > token_logit).sum(-1) + 1
    rank = torch.ones(len(logits), dtype=torch.long)
    rows = (token_logit < largest).nonzero()[:, 0]
    if len(rows):
        compared = logits if len(rows) == len(logits) else logits[rows]
        # Ones and zeros as float32 are summed eight times as fast, and exactly up to 2^24 of them.
        rank[rows] += torch.gt(compared, token_logit[rows], out=scratch[: len(rows)]).sum(-1).long()
    return rank


def _entropy(log_p: Tensor, p: Tensor, scratch: Tensor) -> Tensor:
    """Return (N,) entropies; a token of no probability adds nothing. `scratch` is an (N, V) buffer."""
    entropy = -torch.mul(p, log_p, out=scratch).sum(-1)
    undefined = entropy.isnan().nonzero()[:, 0]
    if len(undefined):
        finite = log_p[undefined].clamp(min=torch.finfo(log_p.dtype).min)
        entropy[undefined] = -(p[undefined] * finite).sum(-1)
    return entropy


def _widest_dtype(values: Tensor) -> torch.dtype:
    """Return float64 where the device has it, else float32."""
    return torch.float32 if values.device.type == "mps" else torch.float64
