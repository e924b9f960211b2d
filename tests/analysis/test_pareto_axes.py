"""In which metrics a sweep's Pareto front is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from valued_points import point_results, rows, store, sweep_of, sweep_point

from harness.analysis.compare_points import compare
from harness.analysis.comparison import Front
from harness.config.point import Compare

CHRF, EXACT, ITL, TOTAL = (
    "reference/chrf",
    "reference/exact_match",
    "latency/itl_p50_ms",
    "latency/total_p50_ms",
)
DEFAULT = {"text/repeated_4": 0.1, "probability/mean_logprob": -1.0}


def front(outputs: Path, points: dict[str, dict[str, float]], **options: Any) -> Front | None:
    for name, metrics in points.items():
        store(outputs, f"m-set-{name}", rows(), DEFAULT | metrics)
    sweep = sweep_of(outputs, *map(sweep_point, points), **options)
    return compare(sweep, point_results(sweep)).front


POINTS = {
    "quick": {CHRF: 30.0, EXACT: 0.1, ITL: 1.0, TOTAL: 10.0},
    "good": {CHRF: 50.0, EXACT: 0.0, ITL: 2.0, TOTAL: 20.0},
    "beaten": {CHRF: 40.0, EXACT: 0.0, ITL: 3.0, TOTAL: 30.0},
}


def test_the_default_is_the_goal_and_the_time_per_token(outputs: Path) -> None:
    found = front(outputs, POINTS, pareto=list(Compare().pareto), goal=None)
    assert found == Front((ITL, CHRF), ("m/quick", "m/good"), ("m/quick", "m/good", "m/beaten"))


def test_the_goal_is_the_one_that_was_asked_for(outputs: Path) -> None:
    found = front(outputs, POINTS, pareto=list(Compare().pareto), goal="exact_match")
    assert found == Front((ITL, EXACT), ("m/quick",), ("m/quick", "m/good", "m/beaten"))


def test_where_a_timed_point_has_no_time_per_token_the_cost_is_the_whole_time(
    outputs: Path,
) -> None:
    beam = {"beam": {CHRF: 60.0, EXACT: 0.2, TOTAL: 40.0}, "untimed": {CHRF: 99.0, EXACT: 1.0}}
    found = front(outputs, POINTS | beam)
    assert found is not None
    assert found.metrics == (TOTAL, CHRF)
    assert found.labels == ("m/quick", "m/good", "m/beam")
    assert found.compared == ("m/quick", "m/good", "m/beaten", "m/beam"), "one was not timed"


def test_what_the_user_wants_or_no_goal_is_left_as_it_is(outputs: Path) -> None:
    wanted = [EXACT, CHRF]
    found = front(outputs, POINTS, pareto=wanted)
    assert found is not None
    assert found.metrics == tuple(wanted)
    for name, metrics in POINTS.items():
        store(outputs, f"m-none-{name}", rows(), DEFAULT | {ITL: metrics[ITL]})
    sweep = sweep_of(outputs, *(sweep_point(name, prompts="none") for name in POINTS))
    without = compare(sweep, point_results(sweep)).front
    assert without is not None
    assert without.metrics == Compare().pareto


def test_without_a_cost_there_is_no_front(outputs: Path) -> None:
    assert front(outputs, {"a": {CHRF: 1.0}, "b": {CHRF: 2.0}}) is None
