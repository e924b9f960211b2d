"""What is known of whole rows of logits: sums over the vocabulary, computed once a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from harness.decoding.row_blocks import block_rows

_NO_PART = 1e-18
"""Share of the likeliest token's probability up to which a token adds nothing to a sum of float32.

The square of a smaller one would be subnormal, which takes a CPU ten times as long.
"""


class Reductions:
    """What is known of whole rows of logits x, in columns of one tensor: rows are selected in one call."""

    def __init__(self, columns: Sequence[Tensor] | Tensor) -> None:
        """Take `best`, `log_rest`, `entropy` and `left`, (R, 1) each, or a tensor (R, 4) of them."""
        self.columns = columns if isinstance(columns, Tensor) else torch.cat(tuple(columns), dim=1)

    @property
    def best(self) -> Tensor:
        """(R, 1), the largest logit."""
        return self.columns[:, 0:1]

    @property
    def log_rest(self) -> Tensor:
        """(R, 1), log of the sum of exp(x - best); so x - best - log_rest are log-probabilities."""
        return self.columns[:, 1:2]

    @property
    def entropy(self) -> Tensor:
        """(R, 1), nats."""
        return self.columns[:, 2:3]

    @property
    def left(self) -> Tensor:
        """(R, 1), how many logits are above -inf, as a float."""
        return self.columns[:, 3:4]

    def select(self, index: Tensor) -> Self:
        """Return some of the rows."""
        return type(self)(self.columns[index])


class Spread(NamedTuple):
    """What is known besides of rows that a model gave, (R, 1) each.

    Attributes:
        mean: of x - best, over the vocabulary.
        squares: the sum of the squared probabilities.
        deviation: the population's standard deviation of the logits above -inf.
    """

    mean: Tensor
    squares: Tensor
    deviation: Tensor

    def select(self, index: Tensor) -> Self:
        """Return some of the rows."""
        return type(self)(*(column[index] for column in self))


def reductions(logits: Tensor, best: Tensor, *, spread: bool) -> tuple[Reductions, Spread | None]:
    """Return what is known of whole rows of (R, V) logits; NaN of rows with a NaN or +inf, or all -inf.

    `best` are the largest of each row, (R, 1); `spread` asks for that too.
    """
    if logits.device.type == "cpu":
        rows = block_rows(logits)
        blocks = zip(logits.split(rows), best.split(rows), strict=True)
        columns = joined_columns([_of_finite(*block, spread=spread) for block in blocks])
        finite = columns[1].isfinite()
        if not bool(finite.all()):
            some = (~finite[:, 0]).nonzero()[:, 0]
            for column, own in zip(columns, _of_any(logits[some], best[some], spread=spread), strict=True):
                column[some] = own
    else:
        columns = _of_any(logits, best, spread=spread)
    total, products, left, *more = columns
    log_rest = total.log()
    known = Reductions([best, log_rest, log_rest - products / total, left])
    if not spread:
        return known, None
    mean, norm, deviation = more
    return known, Spread(mean, (norm / total).square_(), deviation)


def _of_finite(logits: Tensor, best: Tensor, *, spread: bool) -> list[Tensor]:
    """Return sums over rows of (r, V) finite logits, (r, 1) each, of x = logits - best and p = exp(x).

    Of p; of p * x; how many are left; for the spread the mean of x, the norm of p, and the standard deviation
    of x. The second is NaN where a logit is not finite, and the others then mean nothing.
    """
    x = logits - best
    p = x.exp()
    more = []
    if spread:
        mean = x.mean(-1, keepdim=True)
        torch.threshold_(p, _NO_PART, 0.0)
        more = [mean, torch.linalg.vector_norm(p, dim=-1, keepdim=True)]
    total = p.sum(-1, keepdim=True)
    products = p.mul_(x).sum(-1, keepdim=True)
    if spread:
        deviation = torch.linalg.vector_norm(x.sub_(mean), dim=-1, keepdim=True) / logits.shape[1] ** 0.5
        more.append(deviation)
    return [total, products, torch.full_like(best, logits.shape[1]), *more]


def _of_any(logits: Tensor, best: Tensor, *, spread: bool) -> list[Tensor]:
    """Return the same of rows in which some logits may be -inf."""
    x = logits - best
    p = x.exp()
    # 0 times -inf is NaN, and left out; that of a row with a NaN is in the total.
    sums = [p.sum(-1, keepdim=True), (p * x).nansum(-1, keepdim=True)]
    sums.append((logits > float("-inf")).sum(-1, keepdim=True).to(logits.dtype))
    if spread:
        norm = torch.linalg.vector_norm(p, dim=-1, keepdim=True)
        sums += [x.mean(-1, keepdim=True), norm, deviation_of(logits)]
    return sums


def joined_columns(several: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the columns of several parts, one after the other."""
    return list(several[0]) if len(several) == 1 else [torch.cat(one) for one in zip(*several, strict=True)]


def log_probs(logits: Tensor, known: Reductions) -> Tensor:
    """Return log-probabilities of (R, n) logits, of rows of which the reductions are known."""
    return (logits - known.best).sub_(known.log_rest)


def entropy_of(log_p: Tensor) -> Tensor:
    """Return (R,) entropy in nats of (R, V) log-probabilities; a token without probability adds nothing."""
    p = log_p.exp()
    nan_if_nan = p[:, 0] * 0.0  # a distribution with a NaN is NaN throughout, and its entropy must be NaN
    # 0 times -inf is NaN, and left out.
    return p.mul_(log_p).nansum(-1).neg_().add_(nan_if_nan)


def deviation_of(logits: Tensor) -> Tensor:
    """Return (R, 1), the population's standard deviation of the logits above -inf; 0 without any."""
    mean = logits.mean(-1, keepdim=True)
    if logits.device.type == "cpu" and bool(mean.isfinite().all()):
        return torch.linalg.vector_norm(logits - mean, dim=-1, keepdim=True) / logits.shape[1] ** 0.5
    left = logits > float("-inf")
    count = left.sum(-1, keepdim=True).clamp_(min=1)
    mean = logits.masked_fill(~left, 0.0).sum(-1, keepdim=True) / count
    centred = (logits - mean).masked_fill_(~left, 0.0)
    return torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / count.sqrt()
