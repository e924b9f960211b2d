"""What a speculative loop took, beside plain decoding of the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import fmean, median, stdev
from typing import Any

from harness.analysis.speculative_blocks import BlockLength, SpeculativeText, predicted_speedup


@dataclass(frozen=True)
class LoopCosts:
    """The costs of a loop over a step of plain decoding.

    Attributes:
        cost: of a proposal.
        verify: of a forward pass of the target with a block of `block` tokens.
    """

    cost: float
    verify: float
    block: int

    def speedup(self, one: BlockLength) -> float:
        """Return what another block length promises; a pass takes longer in proportion to its tokens."""
        slope = max(0.0, self.verify - 1) / self.block
        verify = 1 + slope * one.block
        proposed = one.proposed / one.forwards
        return predicted_speedup(one.tokens_per_forward, 1, self.cost * proposed, verify)

    def best_of(self, lengths: Sequence[BlockLength]) -> int:
        """Return the block length that promises most; of equal ones the shortest."""
        return max(lengths, key=lambda one: (self.speedup(one), -one.block)).block


def loop_costs(plain_seconds: float, block: int, runs: Sequence[SpeculativeText]) -> LoopCosts:
    """Return the costs in some runs; `plain_seconds` are those of a token of plain decoding."""
    proposed = sum(one.proposed for run in runs for one in run.passes)
    drafting = sum(run.draft_seconds for run in runs)
    passes = sum(len(run.passes) for run in runs)
    rest = sum(run.seconds for run in runs) - drafting
    return LoopCosts(drafting / max(proposed, 1) / plain_seconds, rest / passes / plain_seconds, block)


def timed_draft(
    block: int,
    stored: Sequence[Sequence[int]],
    turns: Sequence[tuple[Sequence[SpeculativeText], Sequence[SpeculativeText]]],
) -> dict[str, Any]:
    """Return what turns of plain decoding and of a loop show, as JSON values.

    Args:
        block: tokens proposed at most.
        stored: the tokens of each text, as its samples have them.
        turns: the runs of all texts, plain and with the draft, of each repetition.

    Returns:
        `speedup`, the geometric mean over texts and repetitions, and `speedup_interval`, its 95% interval (t;
        None of a single run); `draft_share` of the loop's time; the costs of `LoopCosts`; `texts`, `tokens`
        and `forwards` of a turn; `differing`: tokens of a turn that are not those of the samples.
    """
    plain = [sum(run.seconds for run in one) for one, _ in turns]
    ratios = [a.seconds / b.seconds for pair in turns for a, b in zip(*pair, strict=True)]
    speedup, interval = _geometric_mean(ratios)
    last = turns[-1][1]
    tokens = sum(map(len, stored))
    every = [run for _, one in turns for run in one]
    costs = loop_costs(median(plain) / tokens, block, every)
    return {
        "speedup": speedup,
        "speedup_interval": interval,
        "draft_share": sum(run.draft_seconds for run in every) / sum(run.seconds for run in every),
        "cost": costs.cost,
        "verify": costs.verify,
        "texts": len(stored),
        "tokens": tokens,
        "forwards": sum(len(run.passes) for run in last),
        "differing": sum(map(differing, stored, (run.tokens for run in last))),
    }


def _geometric_mean(ratios: Sequence[float]) -> tuple[float, list[float] | None]:
    """Return the geometric mean and its 95% interval by Student's t; None for the interval of one ratio."""
    logs = [log(ratio) for ratio in ratios]
    if len(logs) < 2:
        return exp(fmean(logs)), None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(logs) - 1)) * stdev(logs) / sqrt(len(logs))
    return exp(fmean(logs)), [exp(fmean(logs) - half), exp(fmean(logs) + half)]


def differing(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens of two texts differ, by position; what only one of them has differs."""
    pairs = zip(one, other, strict=False)
    return sum(a != b for a, b in pairs) + abs(len(one) - len(other))
