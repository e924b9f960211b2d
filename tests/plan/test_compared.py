"""Parts of names in `compare`: which point is the baseline, which metric the goal."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError
from harness.plan.compared import baseline_label, goal_metric

LABELS = ["tiny/fp32/greedy", "tiny/fp32/top_p top_p=0.5", "tiny/fp32/top_p top_p=0.9", "small/fp32/greedy"]


@pytest.mark.parametrize(
    ("wanted", "label"),
    [
        ("tiny/fp32/greedy", "tiny/fp32/greedy"),
        ("tiny/*/greedy", "tiny/fp32/greedy"),
        ("small*", "small/fp32/greedy"),
        ("small", "small/fp32/greedy"),
        ("top_p=0.9", "tiny/fp32/top_p top_p=0.9"),
        ("top_p top_p=0.5", "tiny/fp32/top_p top_p=0.5"),
    ],
)
def test_a_part_that_only_one_label_has_names_it(wanted: str, label: str) -> None:
    assert baseline_label(wanted, LABELS) == label


def test_a_whole_label_wins_over_those_that_contain_it() -> None:
    assert baseline_label("top_p", ["top_p", "tiny/top_p", "top_p top_p=0.5"]) == "top_p"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("greedy", "2 points are meant; name one of tiny/fp32/greedy, small/fp32/greedy"),
        ("*/greedy", "2 points are meant; name one of tiny/fp32/greedy, small/fp32/greedy"),
        ("top_p", "name one of 'tiny/fp32/top_p top_p=0.5', 'tiny/fp32/top_p top_p=0.9'"),
        ("gredy", "no point has this label; did you mean compare.baseline=greedy? (points: tiny/"),
        ("eedy", "no point has this label"),
        ("xyzzy", "no point has this label (points: tiny/fp32/greedy, "),
    ],
)
def test_one_that_names_several_or_none_is_refused(wanted: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        baseline_label(wanted, LABELS)
    assert str(error.value).startswith(f"compare.baseline={wanted}: ")
    assert message in str(error.value)


def test_of_many_points_a_few_are_named() -> None:
    with pytest.raises(ConfigError, match=r"30 points are meant; name one of a0/x, .*, a5/x and 24 more$"):
        baseline_label("x", [f"a{number}/x" for number in range(30)])


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("chrf", "reference/chrf"),
        ("reference/chrf", "reference/chrf"),
        ("quality/chrf", "reference/chrf"),
        ("exact-match", "reference/exact_match"),
        ("distinct_2", "text/distinct_2"),
        ("own/length", "own/length"),
        ("length", "own/length"),
        ("feedback/liked", "feedback/liked"),
    ],
)
def test_the_end_of_a_metric_names_it(wanted: str, key: str) -> None:
    assert goal_metric(wanted, ["own/length"]) == key


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("chrff", "no such metric; did you mean compare.goal=reference/chrf? (compared with a reference: "),
        ("quality/chrff", "did you mean compare.goal=reference/chrf?"),
        ("own/lenght", "no such metric; did you mean own/length? (metrics of your own: own/length)"),
        ("feedback/", "no such metric"),
        ("xyzzy", "no such metric (compared with a reference: reference/chrf, "),
    ],
)
def test_a_metric_that_there_is_not_is_refused(wanted: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        goal_metric(wanted, ["own/length"])
    assert str(error.value).startswith(f"compare.goal={wanted}: ")
    assert message in str(error.value)
