"""Which differences a prompt set can show: worked by hand from the spread over prompts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from valued_points import point_results, rows, store, sweep_of, sweep_point

from harness.analysis.detectable import (
    Detectable,
    detectable_differences,
    detectable_line,
    spread_of_differences,
)

CHRF, DISTINCT, LOGPROB = "reference/chrf", "text/distinct_2", "probability/mean_logprob"


def found(outputs: Path, runs: int, values: dict[str, dict[str, list[float]]]) -> list[Detectable]:
    keys = {"chrf": CHRF, "distinct_2": DISTINCT, "mean_logprob": LOGPROB}
    for name, columns in values.items():
        metrics = {keys[column]: float(np.mean(some)) for column, some in columns.items()}
        store(outputs, f"m-set-{name}", rows(**columns), metrics)
    sweep = sweep_of(outputs, *map(sweep_point, values))
    return detectable_differences(sweep, point_results(sweep), runs)


def visible(deviation: float, prompts: int, pairs: int) -> float:
    """Return the least difference: its t is the critical one of the family, and 0.84 above."""
    level = 1 - 0.95 ** (1 / pairs)
    critical = stats.t.ppf(1 - level / 2, prompts - 1)
    return float((critical + stats.norm.ppf(0.8)) * deviation / math.sqrt(prompts))


def test_one_stored_run_gives_an_upper_bound(outputs: Path) -> None:
    (one,) = found(outputs, 4, {"a": {"chrf": [10.0, 20, 30, 40]}})
    deviation = math.sqrt(500 / 3)
    assert (one.metric.key, one.prompts, one.pairs) == (CHRF, 4, 0)
    assert one.difference == pytest.approx(visible(math.sqrt(2) * deviation, 4, 6))
    assert detectable_line([one]) == "4 prompts can show no significant difference: 6 are the least"


def test_two_stored_runs_are_paired_by_prompt(outputs: Path) -> None:
    (one,) = found(outputs, 2, {"a": {"chrf": [10.0, 20, 30, 40]}, "b": {"chrf": [11.0, 20, 31, 40]}})
    assert one.pairs == 1
    assert one.difference == pytest.approx(visible(math.sqrt(1 / 3), 4, 1))


def test_the_line_says_sizes_and_what_they_rest_on(outputs: Path) -> None:
    a = {"chrf": [10.0, 20, 30, 40] * 2}
    (alone,) = found(outputs, 2, {"a": a})
    assert detectable_line([alone]) == (
        f"8 prompts show differences of {visible(2**0.5 * np.std(a['chrf'], ddof=1), 8, 1):.1f} and more in "
        "chrF (in 80% of sweeps; an upper bound, by the spread of one stored run)"
    )
    (paired,) = found(outputs / "other", 2, {"a": a, "b": {"chrf": [11.0, 20, 31, 40] * 2}})
    assert detectable_line([paired]) == (
        f"8 prompts show differences of {visible(math.sqrt(2 / 7), 8, 1):.1f} and more in chrF "
        "(in 80% of sweeps; by the spread of 1 pair of stored runs)"
    )


def test_what_no_difference_can_reach_is_said(outputs: Path) -> None:
    (one,) = found(outputs, 30, {"a": {"chrf": [0.0, 100] * 4}})
    assert one.difference > 100
    line = detectable_line([one])
    assert line is not None
    assert line.startswith("8 prompts show differences of no size in chrF")


def test_without_references_it_is_logprob_and_distinct_2(outputs: Path) -> None:
    values = {"a": {"distinct_2": [0.1, 0.5, 0.9], "mean_logprob": [-1.0, -2, -3]}}
    assert [one.metric.key for one in found(outputs, 1, values)] == [LOGPROB, DISTINCT]


def test_of_several_pairs_the_median_spread_counts() -> None:
    means = np.array([[0.0, 0, 0], [1.0, 0, -1], [3.0, 0, -3]])
    assert spread_of_differences(means) == (2.0, 3, 3)  # 1, 3 and 2


def test_too_little_says_nothing(outputs: Path) -> None:
    assert spread_of_differences(np.array([[1.0, np.nan]])) is None
    assert found(outputs, 2, {"a": {"chrf": [10.0]}}) == []
    assert detectable_line([]) is None


def test_values_that_are_all_equal_say_nothing(outputs: Path) -> None:
    assert detectable_line(found(outputs, 2, {"a": {"chrf": [10.0, 10, 10]}})) is None
