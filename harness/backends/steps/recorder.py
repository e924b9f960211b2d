"""The recorder sees both distributions at each step and keeps O(sequences x k) of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.decoding.logits import Logits, joined
from harness.decoding.reductions import entropy_of, log_probs
from harness.decoding.row_blocks import block_rows
from harness.decoding.sampler_chain import TruncatedLogits
from harness.store.records import Steps

_NEG_INF = float("-inf")
_DROPPED = -1
_ALLOWED = "allowed_logprob"
"""The column that only sequences under a grammar have."""


@dataclass(frozen=True)
class RawStep:
    """One step's raw distributions, a row each, which all strategies at a row share.

    Attributes:
        logits: (R, V), float32.
        top_k: how many of the likeliest tokens are recorded.
        more: what some strategies make of rows of `logits` before they sample, other rows (M, V) each.
    """

    logits: Logits
    top_k: int
    more: tuple[Logits, ...] = ()

    @cached_property
    def top_ids(self) -> Tensor:
        """(R, k) the likeliest tokens, likeliest first."""
        return self.logits.top(self.top_k).tokens

    @cached_property
    def top_logprobs(self) -> Tensor:
        """(R, k) their log-probabilities."""
        return log_probs(self.logits.top(self.top_k).logits, self.logits.reductions())

    @cached_property
    def seen(self) -> Logits:
        """What strategies choose from: `logits`, and behind them `more`."""
        return joined([self.logits, *self.more])

    @property
    def rows_seen(self) -> int:
        """The rows of `seen`."""
        return sum(len(one.values) for one in (self.logits, *self.more))

    def with_rows(self, scores: Tensor) -> RawStep:
        """Return the step with more rows that are chosen from, (M, V)."""
        return replace(self, more=(*self.more, Logits(scores)))

    def logprob_of(self, rows: Tensor, allowed: Tensor) -> Tensor:
        """Return (M,) log raw probability that a token is one of those `allowed` (M, V), of some rows."""
        logits = self.logits.values.index_select(0, rows).masked_fill_(~allowed, _NEG_INF)
        return (logits.logsumexp(-1) - self.logits.log_total()[rows, 0]).clamp_(max=0.0)

    def logprobs(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return (N,) log raw probabilities of a token (N,) in each of some rows (N,)."""
        return self.logits.logprobs(rows, tokens[:, None])[:, 0]

    def ranks(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return (N,) int32, 1 + how many tokens are strictly likelier than a token (N,) of rows (N,).

        The likeliest tokens that are known suffice for most; on a CPU, where a branch costs nothing, only
        for the others the vocabulary is counted.
        """
        values = self.logits.values
        logit = values[rows, tokens][:, None]
        top = self.logits.widest_top()
        if top is None:
            return _likelier(values.index_select(0, rows), logit)
        rank = _likelier(top.logits[rows], logit)
        beyond = rank > top.logits.shape[1]
        if values.device.type != "cpu":
            return torch.where(beyond, _likelier(values.index_select(0, rows), logit), rank)
        far = beyond.nonzero()[:, 0]
        if len(far):
            rank[far] = _likelier(values.index_select(0, rows[far]), logit[far])
        return rank


class Recorder:
    """Collects the columns of `records.Steps`, for sequences that the caller numbers."""

    def __init__(self, top_k: int) -> None:
        """Keep the `top_k` likeliest alternatives of each step."""
        self._top_k = top_k
        self._sequences: list[Sequence[int]] = []
        self._latest = 0
        self._chosen: list[tuple[Tensor, Tensor]] = []
        self._raw: list[dict[str, Tensor]] = []
        self._warped: list[dict[str, Tensor]] = []
        self._waiting: list[Callable[[], dict[str, Tensor]]] = []

    @property
    def can_wait(self) -> bool:
        """Whether `end_step` may follow once the next step is on its way: a GPU need not wait for it then."""
        return True

    def begin_step(self, logits: Tensor) -> RawStep:
        """Begin a step with the raw distributions, logits (R, V), float32."""
        self._latest = len(self._sequences)
        known = Logits(logits)
        known.spread()  # all is recorded: computed at once, before some of it is asked for
        return RawStep(known, min(self._top_k, logits.shape[1]))

    def observe(
        self,
        sequences: Sequence[int],
        raw: RawStep,
        rows: Tensor,
        tokens: Tensor,
        warped: Tensor | Logits | TruncatedLogits | None = None,
        warped_rows: Tensor | None = None,
        allowed_logprob: Tensor | None = None,
    ) -> None:
        """Record one step of N sequences that share a strategy; `end_step` follows once all were observed.

        Args:
            sequences: their numbers; a sequence's steps are recorded in order.
            raw: the step's raw distributions.
            rows: each sequence's row in `raw`.
            tokens: the tokens they chose.
            warped: (M, V) logits that were drawn from, or what a truncation kept of them; None if not warped.
                `Logits` share what is known of them already.
            warped_rows: each sequence's row in `warped`.
            allowed_logprob: (N,) log of the raw probability of what a grammar allowed; None without one.
        """
        self._sequences.append(sequences)
        self._chosen.append((rows, tokens))
        columns = partial(_columns, raw, rows, tokens, warped, warped_rows, allowed_logprob)
        if raw.logits.device.type == "cpu":  # while the logits are in its cache
            self._warped.append(columns())
        else:
            self._waiting.append(columns)

    def end_step(self, raw: RawStep) -> None:
        """Record what is left of a step, for all sequences at once."""
        self._warped += [columns() for columns in self._waiting]
        self._waiting = []
        rows = torch.cat([rows for rows, _ in self._chosen])
        tokens = torch.cat([tokens for _, tokens in self._chosen])
        self._chosen = []
        known, spread = raw.logits.reductions(), raw.logits.spread()
        self._raw.append(
            {
                "token_id": tokens,
                "logprob": raw.logprobs(rows, tokens),
                "rank": raw.ranks(rows, tokens),
                "entropy": known.entropy[rows, 0],
                "sum_p2": spread.squares[rows, 0],
                "logit_std": spread.deviation[rows, 0],
                "vocab_mean_logprob": (known.mean - known.log_rest)[rows, 0],
                "top_ids": raw.top_ids[rows],
                "top_logprobs": raw.top_logprobs[rows],
            }
        )

    def drop(self, sequences: Collection[int]) -> None:
        """Forget the latest step of some sequences: what they chose was not used."""
        for place in range(self._latest, len(self._sequences)):
            kept = self._sequences[place]
            self._sequences[place] = [_DROPPED if number in sequences else number for number in kept]

    def finish(self) -> Recorded:
        """Copy what was recorded to the CPU, once, each sequence's steps together."""
        sequences = np.fromiter(chain.from_iterable(self._sequences), dtype=np.int64)
        order = np.argsort(sequences, kind="stable")
        if any(_ALLOWED in values for values in self._warped):
            for values in self._warped:
                values.setdefault(_ALLOWED, torch.full_like(values["warped_logprob"], float("nan")))
        arrays = {}
        for steps in (self._raw, self._warped):
            for name in steps[0] if steps else ():
                arrays[name] = torch.cat([values[name] for values in steps]).cpu().numpy()[order]
        return Recorded(sequences[order], arrays)


class Recorded:
    """What was recorded: arrays by name over the steps of all sequences, each sequence's steps in order."""

    def __init__(self, sequences: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        self._sequences = sequences
        self._arrays = arrays

    def steps(self, sequence: int, length: int, top_k: int) -> Steps:
        """Return the first `length` steps of one sequence, with at most `top_k` alternatives."""
        start = int(np.searchsorted(self._sequences, sequence))
        rows = slice(start, start + length)
        columns: dict[str, Any] = {
            name: (values[rows, :top_k] if values.ndim == 2 else values[rows]).copy()
            for name, values in self._arrays.items()
        }
        if _ALLOWED in columns and np.isnan(columns[_ALLOWED]).all():
            del columns[_ALLOWED]
        return Steps(**columns)


def _columns(
    raw: RawStep,
    rows: Tensor,
    tokens: Tensor,
    warped: Tensor | Logits | TruncatedLogits | None,
    warped_rows: Tensor | None,
    allowed_logprob: Tensor | None,
) -> dict[str, Tensor]:
    """Return what is recorded of what sequences of a strategy were drawn from; see `Recorder.observe`."""
    if warped is None or warped_rows is None:
        logprob = raw.logprobs(rows, tokens)
        values = {
            "warped_logprob": logprob,
            "warped_entropy": raw.logits.entropy()[rows, 0],
            "kept": _count_left(raw.logits)[rows],
            "kept_mass": torch.ones_like(logprob),
            "top_warped_logprobs": raw.top_logprobs[rows],
        }
    else:
        known = Logits(warped) if isinstance(warped, Tensor) else warped
        count = len(known.logits if isinstance(known, TruncatedLogits) else known)
        raw_rows = rows.new_zeros(count).scatter_(0, warped_rows, rows)
        if isinstance(known, TruncatedLogits):
            by_row = _of_truncated(known, raw, raw_rows)
            chosen = known.select(warped_rows).logits_of(tokens[:, None])[:, 0]
        else:
            by_row = _of_warped(known, raw, raw_rows)
            chosen = known.at(warped_rows, tokens)
        values = {name: column[warped_rows] for name, column in by_row.items()}
        values["warped_logprob"] = chosen - values.pop("log_total")
    if allowed_logprob is not None:
        values[_ALLOWED] = allowed_logprob
    return values


def _likelier(logits: Tensor, logit: Tensor) -> Tensor:
    """Return (N,) int32, 1 + how many of (N, n) logits are above (N, 1)."""
    return (logits > logit).sum(-1, dtype=torch.int32) + 1


def _of_warped(logits: Logits, raw: RawStep, raw_rows: Tensor) -> dict[str, Tensor]:
    """Return what is recorded of (M, V) warped logits, and their `log_total`: the log of sum(exp(logits)).

    `raw_rows` (M,) are their rows in `raw`.
    """
    kept = _count_left(logits)
    if logits.device.type == "cpu" and bool((kept == logits.vocab_size).all()):
        mass = torch.ones(len(logits), dtype=logits.dtype)
    else:
        mass = _mass_left(logits.values, raw, raw_rows)
    alternatives = logits.logprobs(torch.arange(len(logits), device=logits.device), raw.top_ids[raw_rows])
    return {
        "log_total": logits.log_total()[:, 0],
        "top_warped_logprobs": alternatives,
        "kept": kept,
        "kept_mass": mass,
        "warped_entropy": logits.entropy()[:, 0],
    }


def _mass_left(warped: Tensor, raw: RawStep, raw_rows: Tensor) -> Tensor:
    """Return (M,) the raw probability of the tokens that are left of (M, V) warped logits."""
    rows = block_rows(warped)
    masses = [
        raw.logits.select(of_raw).log_p().exp_().masked_fill_(some == _NEG_INF, 0.0).sum(-1)
        for some, of_raw in zip(warped.split(rows), raw_rows.split(rows), strict=True)
    ]
    return torch.cat(masses).clamp_(max=1.0)


def _of_truncated(truncated: TruncatedLogits, raw: RawStep, raw_rows: Tensor) -> dict[str, Tensor]:
    """Return the same as `_of_warped`, of the few tokens that a truncation kept."""
    log_total = truncated.logits.logsumexp(-1)
    log_q = truncated.logits - log_total[:, None]
    kept = truncated.logits > _NEG_INF
    p = raw.logits.logprobs(raw_rows, truncated.tokens).exp_()
    return {
        "log_total": log_total,
        "top_warped_logprobs": truncated.logits_of(raw.top_ids[raw_rows]) - log_total[:, None],
        "kept": kept.sum(-1, dtype=torch.int32),
        "kept_mass": p.mul_(kept).sum(-1).clamp_(max=1.0),
        "warped_entropy": entropy_of(log_q),
    }


def _count_left(logits: Logits) -> Tensor:
    """Return (R,) int32, how many logits are above -inf; on a CPU their mean tells whether all are."""
    if logits.device.type == "cpu" and bool(logits.reductions().mean.isfinite().all()):
        return torch.full((len(logits),), logits.vocab_size, dtype=torch.int32)
    return (logits.values > _NEG_INF).sum(-1, dtype=torch.int32)
