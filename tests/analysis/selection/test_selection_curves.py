"""The curves over the number of samples, on numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sampled_sweep import sampled_sweep

from harness.analysis.comparison import metrics_of
from harness.analysis.point_results import point_results
from harness.analysis.selection.over_samples import SelectionCurve
from harness.analysis.selection.selected_points import selection_of
from harness.analysis.selection.selection_curves import _bands, selection_curves, selection_json
from harness.analysis.statistics.bootstrap import mean_intervals
from harness.analysis.statistics.proportions import wilson

ANSWERS, CHRF = "reference/answer_match", "reference/chrf"


def curves_of(outputs: Path, goal: str | None) -> dict[tuple[str, str], SelectionCurve]:
    sweep = sampled_sweep(outputs, select=["best_of", "majority"])
    selection = selection_of(sweep, point_results(sweep))
    curves = selection_curves(selection, metrics_of(selection.points), goal)
    assert {curve.label for curve in curves} == {"m/none/top_p"}
    assert selection_json(sweep, selection, curves)["chosen"]["m/none/top_p"]["best_of"]["two"] == 3
    return {(curve.way, curve.metric): curve for curve in curves}


def test_pass_at_k_and_the_accuracy_of_a_vote(outputs: Path) -> None:
    curves = curves_of(outputs, None)
    assert set(curves) == {(way, ANSWERS) for way in ("best_of", "majority", "any", "one")}
    # Right: two samples of four, two of four, one of four. pass@k = 1 - C(4-c, k) / C(4, k).
    right_two, right_one = [1 / 2, 5 / 6, 1, 1], [1 / 4, 1 / 2, 3 / 4, 1]
    expected = (np.array(right_two) * 2 + np.array(right_one)) / 3
    assert curves["any", ANSWERS].means == pytest.approx(expected)
    assert curves["one", ANSWERS].means == pytest.approx([5 / 12] * 4)
    # best_of ranks two 3 0 1 2 and three 1 2 0 3 (right: the last two), words 2 0 1 3 (the third).
    assert curves["best_of", ANSWERS].means == pytest.approx([5 / 12, (1 / 6 + 1 / 6 + 1 / 6) / 3, 0, 0])
    vote = curves["majority", ANSWERS]
    assert vote.sizes == (1, 2, 3, 4)
    assert vote.means[0] == pytest.approx(5 / 12)
    assert vote.means[-1] == pytest.approx(1 / 3)
    assert (vote.lows[-1], vote.highs[-1]) == pytest.approx(wilson(1, 3), abs=0.2)
    assert all(low <= mean <= high for low, mean, high in zip(vote.lows, vote.means, vote.highs, strict=True))
    assert vote.prompts == 3


def test_the_goal_has_curves_too_with_bands_over_prompts(outputs: Path) -> None:
    curves = curves_of(outputs, CHRF)
    assert {metric for _, metric in curves} == {ANSWERS, CHRF}
    one = curves["one", CHRF]
    sweep = sampled_sweep(outputs)
    stored = point_results(sweep)[1].stored
    assert stored is not None
    columns = stored.columns("generations", ["prompt_id", "chrf"])
    of_prompt = np.array(columns["chrf"]).reshape(3, 4).mean(axis=1)
    band = mean_intervals(of_prompt[None])
    assert one.means == pytest.approx([of_prompt.mean()] * 4)
    ends = (max(0.0, band.low[0]), min(100.0, band.high[0]))
    assert (one.lows[0], one.highs[0]) == pytest.approx(ends)
    best = np.array(columns["chrf"]).reshape(3, 4).max(axis=1).mean()
    assert curves["any", CHRF].means[-1] == pytest.approx(best)


def test_without_a_score_there_are_no_curves(outputs: Path) -> None:
    sweep = sampled_sweep(outputs, select=["mbr"])
    selection = selection_of(sweep, point_results(sweep))
    assert selection_curves(selection, (), "text/distinct_2") == ()
    assert selection_json(sweep, selection, ())["curves"] == []


def test_bands_stay_within_what_is_possible() -> None:
    """Of three prompts the t interval of a mean is wider than the scale of chrF."""
    rows = np.array([[0.0, 60.0, 100.0]])
    assert _bands(rows, 0, (0.0, 100.0)) == [(0.0, 100.0)]
    ((low, high),) = _bands(rows, 0, (-np.inf, np.inf))
    assert low is not None
    assert high is not None
    assert low < 0 < 100 < high
