"""What is known of whole rows of logits: sums over the vocabulary, computed once a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from harness.decoding.row_blocks import BlockMemory

_NO_PART = 1e-18
"""Share of the likeliest token's probability up to which a token adds nothing to a sum of float32."""


class Reductions:
    """What is known of whole rows of logits x, in columns of one tensor: rows are selected in one call."""

    def __init__(self, columns: Sequence[Tensor] | Tensor) -> None:
        """Take `best`, `log_rest`, `entropy` and `mean`, (R, 1) each, or a tensor (R, 4) of them."""
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
    def mean(self) -> Tensor:
        """(R, 1), of x - best."""
        return self.columns[:, 3:4]

    def select(self, index: Tensor) -> Self:
        """Return some of the rows."""
        return type(self)(self.columns[index])


class Spread(NamedTuple):
    """What is known besides of rows that a model gave, (R, 1) each.

    Attributes:
        squares: the sum of the squared probabilities.
        deviation: the population's standard deviation of the logits above -inf.
    """

    squares: Tensor
    deviation: Tensor

    def select(self, index: Tensor) -> Self:
        """Return some of the rows."""
        return type(self)(*(column[index] for column in self))


def reductions(centred: Iterable[Tensor], best: Tensor, mean: Tensor | None = None) -> Reductions:
    """Return what is known of whole rows of logits; NaN of rows with a NaN or +inf, or all -inf.

    Args:
        centred: the rows less the largest of each, a few at a time, (r, V) each, which are written over.
        best: (R, 1), the largest of each row.
        mean: (R, 1), the mean of `centred` where it is known.
    """
    memory = BlockMemory()
    sums = [_sums(x, memory, mean=mean is None, spread=False) for x in centred]
    total, products, *computed = joined_columns(sums)
    return _known(best, total, products, computed[0] if mean is None else mean)


def log_totals(centred: Iterable[Tensor], best: Tensor) -> Tensor:
    """Return (R, 1), the log of the sum of exp(logits) of whole rows; the arguments are `reductions`'s."""
    return torch.cat([x.exp_().sum(-1, keepdim=True) for x in centred]).log_().add_(best)


def reductions_and_spread(
    logits: Tensor, centred: Iterable[Tensor], best: Tensor
) -> tuple[Reductions, Spread]:
    """Return the same of (R, V) logits, and what else is known of rows that a model gave."""
    memory = BlockMemory()
    sums = [_sums(x, memory, mean=True, spread=True) for x in centred]
    total, products, mean, *more = joined_columns(sums)
    known = _known(best, total, products, mean)
    squares = (more[0] / total).square_()
    if logits.device.type != "cpu":
        return known, Spread(squares, deviation_of(logits))
    deviation = more[1] / logits.shape[1] ** 0.5
    whole = mean.isfinite()
    if not bool(whole.all()):
        some = (~whole[:, 0]).nonzero()[:, 0]
        deviation[some] = deviation_of(logits[some])
    return known, Spread(squares, deviation)


def _known(best: Tensor, total: Tensor, products: Tensor, mean: Tensor) -> Reductions:
    log_rest = total.log()
    return Reductions([best, log_rest, log_rest - products / total, mean])


def _sums(x: Tensor, memory: BlockMemory, *, mean: bool, spread: bool) -> list[Tensor]:
    """Return sums over rows (r, V), (r, 1) each, of x, which are at most 0, and p = exp(x).

    Of p; of p * x; the mean of x where it is asked for; for the spread the norm of p; and on a CPU that of
    x - mean, which is right where all are finite. x is written over.
    """
    means = [x.mean(-1, keepdim=True)] if mean else []
    p = torch.exp(x, out=memory.take(x.shape, x))
    if spread:
        # What adds nothing to a sum is zero in it; its square would be subnormal, which takes a CPU ten times
        # as long.
        torch.threshold_(p, _NO_PART, 0.0)
    total = p.sum(-1, keepdim=True)
    more = [torch.linalg.vector_norm(p, dim=-1, keepdim=True)] if spread else []
    # 0 times -inf is NaN, and left out; that of a row with a NaN is in the total.
    products = p.mul_(x).nansum(-1, keepdim=True)
    if spread and x.device.type == "cpu":
        more.append(torch.linalg.vector_norm(x.sub_(means[0]), dim=-1, keepdim=True))
    return [total, products, *means, *more]


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
