"""The recorder sees both distributions at each step and keeps O(sequences x k) of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.decoding.logits import Logits, entropy_and_squares, entropy_of, joined
from harness.decoding.sampler_chain import TruncatedLogits
from harness.store.records import Steps

_NEG_INF = float("-inf")
_DROPPED = -1


@dataclass(frozen=True)
class RawStep:
    """One step's raw distributions, a row each, which all strategies at a row share.

    Attributes:
        logits: (R, V), float32.
        log_p: (R, V) their log_softmax.
        entropy: (R,) nats.
        top_k: how many of the likeliest tokens are recorded.
        more: what some strategies make of rows of `logits` before they sample, other rows (M, V) each.
    """

    logits: Logits
    log_p: Tensor
    entropy: Tensor
    top_k: int
    more: tuple[Logits, ...] = ()

    @cached_property
    def top_ids(self) -> Tensor:
        """(R, k) the likeliest tokens, likeliest first."""
        return self.logits.top(self.top_k).tokens

    @cached_property
    def top_logprobs(self) -> Tensor:
        """(R, k) their log-probabilities."""
        return self.log_p.gather(1, self.top_ids)

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
        log_p = self.log_p.index_select(0, rows).masked_fill_(~allowed, _NEG_INF)
        return log_p.logsumexp(-1).clamp_(max=0.0)


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

    def begin_step(self, logits: Tensor) -> RawStep:
        """Compute what is recorded of the raw distributions of a step; logits are (R, V), float32."""
        self._latest = len(self._sequences)
        log_p = logits.log_softmax(-1)
        entropy, squares = entropy_and_squares(log_p)
        shared = Logits(logits, log_p, entropy, squares)
        return RawStep(shared, log_p, entropy, min(self._top_k, logits.shape[1]))

    def observe(
        self,
        sequences: Sequence[int],
        raw: RawStep,
        rows: Tensor,
        tokens: Tensor,
        warped: Tensor | TruncatedLogits | None = None,
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
            warped_rows: each sequence's row in `warped`.
            allowed_logprob: (N,) log of the raw probability of what a grammar allowed; None without one.
        """
        self._sequences.append(sequences)
        self._chosen.append((rows, tokens))
        if warped is None or warped_rows is None:
            logprob = raw.log_p[rows, tokens]
            values = {
                "warped_logprob": logprob,
                "warped_entropy": raw.entropy[rows],
                "kept": _count_finite(raw.log_p.index_select(0, rows)),
                "kept_mass": torch.ones_like(logprob),
                "top_warped_logprobs": raw.top_logprobs[rows],
            }
        else:
            logits = warped.logits if isinstance(warped, TruncatedLogits) else warped
            raw_rows = rows.new_zeros(len(logits)).scatter_(0, warped_rows, rows)
            if isinstance(warped, TruncatedLogits):
                by_row = _of_truncated(warped, raw, raw_rows)
                chosen = warped.select(warped_rows).logits_of(tokens[:, None])[:, 0]
            else:
                by_row = _of_warped(warped, raw, raw_rows)
                chosen = warped[warped_rows, tokens]
            values = {name: column[warped_rows] for name, column in by_row.items()}
            values["warped_logprob"] = chosen - values.pop("log_total")
        if allowed_logprob is None:
            allowed_logprob = torch.full_like(values["warped_logprob"], float("nan"))
        self._warped.append(values | {"allowed_logprob": allowed_logprob})

    def end_step(self, raw: RawStep) -> None:
        """Record what does not depend on a strategy, for all sequences of this step at once."""
        rows = torch.cat([rows for rows, _ in self._chosen])
        tokens = torch.cat([tokens for _, tokens in self._chosen])
        self._chosen = []
        logprob = raw.log_p[rows, tokens]
        self._raw.append(
            {
                "token_id": tokens,
                "logprob": logprob,
                "rank": _rank(raw, rows, logprob),
                "entropy": raw.entropy[rows],
                "sum_p2": raw.logits.squares()[rows, 0],
                "logit_std": raw.logits.deviation()[rows, 0],
                "vocab_mean_logprob": raw.log_p.mean(-1)[rows],
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
        if "allowed_logprob" in columns and np.isnan(columns["allowed_logprob"]).all():
            del columns["allowed_logprob"]
        return Steps(**columns)


def _rank(raw: RawStep, rows: Tensor, logprob: Tensor) -> Tensor:
    """Return (N,) 1 + how many tokens of a row are strictly likelier than one of log-probability `logprob`.

    The recorded alternatives suffice for most; on a CPU, where a branch costs nothing, only the others are
    counted over the vocabulary.
    """
    rank = (raw.top_logprobs[rows] > logprob[:, None]).sum(-1, dtype=torch.int32) + 1
    beyond = rank > raw.top_logprobs.shape[1]
    if logprob.device.type == "cpu":
        far = beyond.nonzero()[:, 0]
        if len(far):
            likelier = raw.log_p.index_select(0, rows[far]) > logprob[far, None]
            rank[far] = likelier.sum(-1, dtype=torch.int32) + 1
        return rank
    counted = (raw.log_p.index_select(0, rows) > logprob[:, None]).sum(-1, dtype=torch.int32) + 1
    return torch.where(beyond, counted, rank)


def _of_warped(warped: Tensor, raw: RawStep, raw_rows: Tensor) -> dict[str, Tensor]:
    """Return what is recorded of (M, V) warped logits, and their `log_total`: the log of sum(exp(logits)).

    `raw_rows` (M,) are their rows in `raw`.
    """
    log_q = warped.log_softmax(-1)
    kept = _count_finite(warped)
    if warped.device.type == "cpu" and bool((kept == warped.shape[1]).all()):
        mass = torch.ones_like(log_q[:, 0])
    else:
        p = raw.log_p.index_select(0, raw_rows).exp_()
        mass = p.masked_fill_(warped == _NEG_INF, 0.0).sum(-1).clamp_(max=1.0)
    return {
        "log_total": warped.amax(-1) - log_q.amax(-1),
        "top_warped_logprobs": log_q.gather(1, raw.top_ids[raw_rows]),
        "kept": kept,
        "kept_mass": mass,
        "warped_entropy": entropy_of(log_q),
    }


def _of_truncated(truncated: TruncatedLogits, raw: RawStep, raw_rows: Tensor) -> dict[str, Tensor]:
    """Return the same as `_of_warped`, of the few tokens that a truncation kept."""
    log_total = truncated.logits.logsumexp(-1)
    log_q = truncated.logits - log_total[:, None]
    kept = truncated.logits > _NEG_INF
    p = raw.log_p[raw_rows[:, None], truncated.tokens].exp_()
    return {
        "log_total": log_total,
        "top_warped_logprobs": truncated.logits_of(raw.top_ids[raw_rows]) - log_total[:, None],
        "kept": kept.sum(-1, dtype=torch.int32),
        "kept_mass": p.mul_(kept).sum(-1).clamp_(max=1.0),
        "warped_entropy": entropy_of(log_q),
    }


def _count_finite(logits: Tensor) -> Tensor:
    """Return (R,) int32, how many of (R, V) logits are above -inf; on a CPU the minimum often suffices."""
    if logits.device.type == "cpu" and bool((logits.amin(-1) > _NEG_INF).all()):
        return torch.full((len(logits),), logits.shape[1], dtype=torch.int32)
    return (logits > _NEG_INF).sum(-1, dtype=torch.int32)
