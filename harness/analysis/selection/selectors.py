"""The selectors: which of several samples of a prompt is taken. Ties go to the lower sample number.

Some rank the samples, each by itself; others let them vote, and depend on which samples there are. Both
choose among any subset, so that their choice from fewer samples can be computed too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.analysis.selection.prompt_candidates import Candidates
from harness.config.selector_names import SelectorName

MOST_COMPARED = 256
"""Samples of a prompt up to which they are compared pair by pair."""


@dataclass(frozen=True)
class Selector:
    """A way to choose a sample. Either `score` or `vote` is given.

    Attributes:
        name: as in `compare.select`.
        score: returns (n,) scores of the samples, the highest of which is taken; NaN is below all others.
        vote: of the samples and (S, n) members of S subsets, returns (S,) the chosen samples.
        needs: what a sample must have, in words; for the line that says why a selector was left out.
    """

    name: SelectorName
    score: Callable[[Candidates], np.ndarray] | None = None
    vote: Callable[[Candidates, np.ndarray], np.ndarray] | None = None
    needs: str = ""

    def ranking(self, candidates: Candidates) -> np.ndarray | None:
        """Return (n,) the samples, the best first; None where they vote."""
        if self.score is None:
            return None
        scores = np.nan_to_num(self.score(candidates), nan=-np.inf, neginf=-np.inf)
        return np.argsort(-scores, kind="stable")

    def choose(self, candidates: Candidates) -> int:
        """Return the index of the chosen sample of all."""
        ranking = self.ranking(candidates)
        if ranking is not None:
            return int(ranking[0])
        assert self.vote is not None
        return int(self.vote(candidates, np.ones((1, len(candidates)), bool))[0])

    def lacks(self, candidates: Candidates) -> bool:
        """Return whether nothing is known of these samples that the choice could depend on."""
        if self.score is None:
            return len(candidates) > MOST_COMPARED and self.name == "mbr"
        return not np.isfinite(self.score(candidates)).any()


def majority_vote(candidates: Candidates, members: np.ndarray) -> np.ndarray:
    """Return the first sample with the answer that most samples have (Wang et al. 2023, arXiv:2203.11171).

    Of answers that equally many have, it is the one whose samples are likelier together (sum of their
    probabilities), then the one that occurs first.

    Args:
        candidates: n samples.
        members: (S, n) which of them belong to each of S subsets.

    Returns:
        (S,) indices of samples.
    """
    codes = candidates.answer_codes
    subsets, answers = len(members), int(codes.max()) + 1
    counts = np.zeros((subsets, answers), np.int64)
    totals = np.full((subsets, answers), -np.inf)
    first = np.full((subsets, answers), len(codes))
    logprobs = np.nan_to_num(candidates.sum_logprob, nan=-np.inf, neginf=-np.inf)
    for i, code in enumerate(codes):
        has = members[:, i]
        counts[:, code] += has
        totals[has, code] = np.logaddexp(totals[has, code], logprobs[i])
        first[has, code] = np.minimum(first[has, code], i)
    most = counts == counts.max(axis=1, keepdims=True)
    totals = np.where(most, totals, -np.inf)
    likeliest = most & (totals == totals.max(axis=1, keepdims=True))
    return np.where(likeliest, first, len(codes)).min(axis=1)


def mbr_vote(candidates: Candidates, members: np.ndarray) -> np.ndarray:
    """Return the sample with the highest mean chrF with all, minimum Bayes risk (Eikema and Aziz 2020).

    The members of a subset are both hypotheses and references, each its own too. As `majority_vote`.
    """
    similarity = candidates.similarity
    # Rounded, so that equal sums are equal in whatever order they were added.
    sums = np.round(members @ similarity.T, 6)
    return np.asarray(np.where(members, sums, -np.inf).argmax(axis=1))


_ALL = (
    Selector("best_of", lambda c: c.mean_logprob, needs="logprobs"),
    Selector("best_of_sum", lambda c: c.sum_logprob, needs="logprobs"),
    Selector("majority", vote=majority_vote),
    Selector("mbr", vote=mbr_vote, needs=f"at most {MOST_COMPARED} samples per prompt"),
    Selector(
        "self_certainty", lambda c: c.self_certainty,
        needs="the mean logprob of the vocabulary, which older points and servers do not record",
    ),
    Selector(
        "first_valid", lambda c: c.valid,
        needs="a grammar that outputs must meet, or compare.answer_pattern",
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Selector] = {selector.name: selector for selector in _ALL}
