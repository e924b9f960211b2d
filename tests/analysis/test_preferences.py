"""Win rates of blind comparisons, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_points import make_sweep

from harness.analysis.point_results import point_results
from harness.analysis.preferences import WIN_RATE, preferences
from harness.analysis.statistics.proportions import wilson
from harness.store.votes import Ballot, Vote, add_ballot

A, B, C = "m/fp32/greedy", "m/fp32/top_p", "m/fp32/temperature"
VOTES = (
    Vote("chat", 0, A, B, "left"),
    Vote("email", 0, B, A, "right"),
    Vote("seed-1", 0, A, C, "tie"),
    Vote("seed-2", 0, B, C, "right"),
)


def test_wins_ties_and_losses_are_counted_whichever_side_won() -> None:
    found = {p.label: (p.wins, p.ties, p.losses, p.rate) for p in preferences(VOTES)}
    assert found == {A: (2, 1, 0, 2.5 / 3), C: (1, 1, 0, 0.75), B: (0, 0, 3, 0.0)}
    assert list(found) == [A, C, B]
    assert preferences(()) == []


def test_points_have_their_win_rate_and_its_interval(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "outputs", models=("m",))
    add_ballot(sweep, Ballot(sweep.sweep_id, "b", VOTES), "votes.json")
    results = {p.point.label: p for p in point_results(sweep)}
    assert results[A].metrics[WIN_RATE] == pytest.approx(2.5 / 3)
    assert results[A].intervals[WIN_RATE] == pytest.approx(wilson(2.5, 3))
