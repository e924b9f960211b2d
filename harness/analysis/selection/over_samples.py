"""What a choice among n samples is worth, by n: its expected score, over all subsets or a random few.

A selector that ranks samples by themselves has an exact expectation; a vote depends on who votes, and is
taken over subsets: all of them where they are few, else SUBSETS drawn with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.analysis.selection.pass_at_k import best_rank_weights
from harness.analysis.selection.prompt_candidates import Candidates
from harness.analysis.selection.selectors import Selector

SUBSETS = 200
"""Random subsets of each size, where there are more."""

MOST_SIZES = 24
"""Sizes of a curve; of more samples, evenly spaced ones on a logarithmic scale."""

ONE, ANY = "one", "any"
"""The curves beside those of selectors: of a sample taken at random, and of the best of all, as pass@k."""


@dataclass(frozen=True)
class SelectionCurve:
    """The score of the sample chosen among n, mean over prompts.

    Attributes:
        label: of the run whose samples they are.
        way: the selector, ONE or ANY.
        metric: key of the score.
        sizes: the values of n, ascending.
        means: at each of them.
        lows, highs: 95% intervals over prompts; None where there are too few.
        prompts: number of prompts.
    """

    label: str
    way: str
    metric: str
    sizes: tuple[int, ...]
    means: tuple[float, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    prompts: int


def sizes_up_to(samples: int) -> tuple[int, ...]:
    """Return the sizes that a curve shows: all of a few samples, else some from 1 to all."""
    if samples <= MOST_SIZES:
        return tuple(range(1, samples + 1))
    steps = np.geomspace(1, samples, MOST_SIZES).round().astype(int)
    return tuple(sorted({*steps.tolist(), 1, samples}))


def expected_scores(
    selector: Selector, candidates: Candidates, scores: np.ndarray, sizes: Sequence[int]
) -> np.ndarray:
    """Return (len(sizes),) expected scores of the selector's choice among so many of these samples.

    Args:
        selector: chooses.
        candidates: n samples.
        scores: (n,) of the samples.
        sizes: 1 to n.
    """
    ranking = selector.ranking(candidates)
    if ranking is not None:
        return _of_ranking(scores[ranking], sizes)
    assert selector.vote is not None
    members = [subsets_of(len(candidates), size) for size in sizes]
    chosen = scores[selector.vote(candidates, np.concatenate(members))]
    ends = np.cumsum([len(some) for some in members])[:-1]
    return np.array([some.mean() for some in np.split(chosen, ends)])


def best_possible(scores: np.ndarray, higher: bool, sizes: Sequence[int]) -> np.ndarray:
    """Return (len(sizes),) expectations of the best score among so many samples; of 0 and 1 it is pass@k."""
    return _of_ranking(np.sort(scores)[:: -1 if higher else 1], sizes)


def _of_ranking(scores: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    return np.array([best_rank_weights(len(scores), size) @ scores for size in sizes])


def subsets_of(samples: int, size: int) -> np.ndarray:
    """Return (S, n) members of all subsets of a size, or of SUBSETS random ones, the same in every call."""
    if math.comb(samples, size) <= SUBSETS:
        rows = np.array(list(combinations(range(samples), size)))
    else:
        rng = np.random.default_rng([samples, size])
        rows = np.argsort(rng.random((SUBSETS, samples)), axis=1)[:, :size]
    members = np.zeros((len(rows), samples), bool)
    np.put_along_axis(members, rows, True, axis=1)
    return members
