"""The arithmetic of speculative decoding: blocks replayed along stored texts, and what they promise.

Leviathan, Kalman and Matias 2023 (arXiv:2211.17192): where each of K proposed tokens is accepted with
probability b, a forward pass of the target yields (1 - b^(K+1)) / (1 - b) tokens; it takes 1 + K c of the
time of a plain step, where c is a step of the draft over one of the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Proposals = Callable[[int, int], Sequence[int]]
"""Returns the tokens, up to a number, that a draft proposes after the first tokens of a text."""


@dataclass(frozen=True)
class Pass:
    """One forward pass of the target: how many tokens were proposed to it, how many of them accepted."""

    proposed: int
    accepted: int


@dataclass(frozen=True)
class SpeculativeText:
    """A text that a speculative loop generated.

    Attributes:
        tokens: its ids.
        passes: the forward passes of the target.
        seconds, draft_seconds: of all; of the draft alone.
    """

    tokens: tuple[int, ...]
    passes: tuple[Pass, ...]
    seconds: float
    draft_seconds: float


@dataclass(frozen=True)
class BlockLength:
    """What a draft gives with blocks of K tokens, over all texts.

    Attributes:
        block: K.
        tokens, forwards: generated, and forward passes of the target for them.
        proposed, accepted: tokens of the draft.
        proposed_at, accepted_at: the same by place in the block, (K,).
    """

    block: int
    tokens: int
    forwards: int
    proposed: int
    accepted: int
    proposed_at: tuple[int, ...]
    accepted_at: tuple[int, ...]

    @property
    def tokens_per_forward(self) -> float:
        """Tokens per forward pass; 1 without a draft."""
        return self.tokens / self.forwards if self.forwards else math.nan


def replay(tokens: Sequence[int], proposals: Proposals, block: int, budget: int) -> list[Pass]:
    """Return the forward passes in which a speculative loop generates a text that is known already.

    Args:
        tokens: of the text.
        proposals: of the draft; past the first wrong one they may be anything, or missing.
        block: tokens proposed a forward pass at most.
        budget: `max_new_tokens`; the last token of it is never proposed.
    """
    passes = []
    start = 0
    while start < len(tokens):
        count = min(block, budget - start - 1)
        proposed = proposals(start, count)
        accepted = 0
        while accepted < min(len(proposed), len(tokens) - start) and (
            proposed[accepted] == tokens[start + accepted]
        ):
            accepted += 1
        passes.append(Pass(len(proposed), accepted))
        start += accepted + 1
    return passes


def model_proposals(along: Sequence[int]) -> Proposals:
    """Return the proposals of a draft model, of which those at each position of the text are known.

    A block that goes beyond the text, or beyond a wrong token, is as long as the loop's.
    """
    known = list(along)

    def proposals(start: int, count: int) -> Sequence[int]:
        found = known[start : start + count]
        return found + [-1] * (count - len(found))

    return proposals


def block_length(block: int, texts: Iterable[tuple[int, Sequence[Pass]]]) -> BlockLength:
    """Return the sums over texts, given as their number of tokens and their forward passes."""
    tokens = forwards = 0
    proposed_at, accepted_at = np.zeros(block, int), np.zeros(block, int)
    for length, passes in texts:
        tokens += length
        forwards += len(passes)
        for one in passes:
            proposed_at[: one.proposed] += 1
            accepted_at[: one.accepted] += 1
    sums = int(proposed_at.sum()), int(accepted_at.sum())
    return BlockLength(
        block, tokens, forwards, *sums, tuple(proposed_at.tolist()), tuple(accepted_at.tolist())
    )


@dataclass(frozen=True)
class Estimate:
    """A mean over positions, with its standard error."""

    mean: float
    se: float


@dataclass(frozen=True)
class Acceptance:
    """How often a draft's token is the text's, over all positions, and how often it should be.

    Attributes:
        positions: how many.
        observed: share of positions that agree.
        coupling: the probability that they do with shared noise; its error is that of `observed` around it.
        overlap: 1 - TV, the most that any speculative sampling accepts; its error is over texts.
    """

    positions: int
    observed: float
    coupling: Estimate
    overlap: Estimate


def acceptance(
    agreed: Sequence[np.ndarray], coupling: Sequence[np.ndarray], shared: Sequence[np.ndarray]
) -> Acceptance | None:
    """Return the acceptance over texts, each with (T,) arrays; None without a position.

    Given the text so far, whether a token agrees is a coin of probability `coupling`, so the deviations of
    all positions from their coins add up like those of independent ones.
    """
    every, likely = np.concatenate([*agreed, []]), np.concatenate([*coupling, []])
    if not len(every):
        return None
    spread = math.sqrt(max(0.0, float((likely * (1 - likely)).sum()))) / len(every)
    return Acceptance(
        len(every), float(every.mean()), Estimate(float(likely.mean()), spread), _over_texts(shared)
    )


def _over_texts(values: Sequence[np.ndarray]) -> Estimate:
    """Return the mean over positions; its standard error holds for positions of a text that are alike."""
    total = sum(len(one) for one in values)
    mean = sum(float(one.sum()) for one in values) / total
    residuals = [float((one - mean).sum()) for one in values]
    return Estimate(mean, math.sqrt(math.fsum(r * r for r in residuals)) / total)


def expected_tokens(accepted: float, block: int) -> float:
    """Return tokens per forward pass where each of `block` proposals is accepted with this probability."""
    if accepted >= 1:
        return block + 1.0
    return (1 - accepted ** (block + 1)) / (1 - accepted)


def predicted_speedup(tokens_per_forward: float, block: int, cost: float, verify: float = 1.0) -> float:
    """Return how many times as fast as plain decoding it is.

    `cost` is the time of a proposal, `verify` that of a forward pass with a block, both over a plain step.
    """
    return tokens_per_forward / (verify + block * cost)


def break_even_cost(tokens_per_forward: float, block: int) -> float:
    """Return the cost of a proposal, over a plain step, up to which speculation is no slower."""
    return (tokens_per_forward - 1) / block
