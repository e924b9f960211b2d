"""What blind comparisons say of each point: how often its outputs were found better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.statistics.proportions import wilson
from harness.store.votes import Vote

WIN_RATE = "preference/win_rate"
"""The metric's key."""


@dataclass(frozen=True)
class Preference:
    """The comparisons of one point with others.

    Attributes:
        label: of the point.
        wins, ties, losses: numbers of comparisons.
    """

    label: str
    wins: int
    ties: int
    losses: int

    @property
    def trials(self) -> int:
        """Return how many comparisons there are."""
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float:
        """Return the share of its comparisons that it won, ties counting half."""
        return (self.wins + self.ties / 2) / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95% interval of `rate`, which takes comparisons as independent."""
        return wilson(self.wins + self.ties / 2, self.trials)


def preferences(votes: Sequence[Vote]) -> list[Preference]:
    """Return the points that were compared, the highest win rate first."""
    wins: Counter[str] = Counter()
    ties: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    for vote in votes:
        if vote.choice == "tie":
            ties.update((vote.left, vote.right))
        else:
            left_won = vote.choice == "left"
            wins[vote.left if left_won else vote.right] += 1
            losses[vote.right if left_won else vote.left] += 1
    labels = dict.fromkeys(label for vote in votes for label in (vote.left, vote.right))
    found = [Preference(label, wins[label], ties[label], losses[label]) for label in labels]
    return sorted(found, key=lambda p: -p.rate)
