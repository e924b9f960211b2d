"""Tests of the goal: how `compare.goal` names a metric, and which one it is without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from valued_points import sweep_of

from harness.analysis.goal import goal_of
from harness.analysis.metric_catalog import Metric, metric_of

KEYS = ("probability/mean_logprob", "text/distinct_2", "reference/rouge_l", "reference/chrf")
METRICS = [metric_of(key) for key in KEYS]
POLITE = Metric("own/politeness", "politeness", "says please", better="higher", per_sample="own/politeness")


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("reference/chrf", "reference/chrf"),
        ("quality/chrf", "reference/chrf"),
        ("chrf", "reference/chrf"),
        ("distinct_2", "text/distinct_2"),
        ("text/distinct_2", "text/distinct_2"),
        ("politeness", "own/politeness"),
        ("own/politeness", "own/politeness"),
        (None, "reference/chrf"),
        ("", "reference/chrf"),
    ],
)
def test_a_goal_is_found(outputs: Path, wanted: str | None, key: str) -> None:
    goal, complaint = goal_of(sweep_of(outputs, goal=wanted), [*METRICS, POLITE])
    assert complaint is None
    assert goal is not None
    assert goal.key == key


def test_with_an_answer_pattern_the_goal_is_whether_answers_are_right(outputs: Path) -> None:
    metrics = [*METRICS, metric_of("reference/answer_match")]
    for pattern, key in ((None, "reference/chrf"), ("[A-D]", "reference/answer_match")):
        goal, _ = goal_of(replace(sweep_of(outputs), compare={"answer_pattern": pattern}), metrics)
        assert goal is not None
        assert goal.key == key


def test_an_unknown_goal_is_one_line(outputs: Path) -> None:
    for wanted in ("bertscore", "quality/<b>x</b>", "text/chrf"):
        goal, complaint = goal_of(sweep_of(outputs, goal=wanted), METRICS)
        assert goal is None
        assert complaint is not None
        assert complaint.text() == f"compare.goal={wanted}: no run has this metric."
        assert complaint.tone == "bad"


def test_a_goal_without_a_direction_is_refused(outputs: Path) -> None:
    for wanted in ("mean_logprob", "probability/mean_logprob"):
        goal, complaint = goal_of(sweep_of(outputs, goal=wanted), METRICS)
        assert goal is None
        assert complaint is not None
        assert complaint.text() == (
            "compare.goal=probability/mean_logprob: neither a higher nor a lower value is better."
        )


def test_without_a_goal_references_come_first_then_a_custom_metric_with_a_direction(outputs: Path) -> None:
    sweep = sweep_of(outputs)
    plain = Metric("own/plain", "plain", "has no direction")
    assert goal_of(sweep, METRICS[:2]) == (None, None)
    assert goal_of(sweep, [*METRICS[:2], plain]) == (None, None)
    assert goal_of(sweep, [*METRICS[:2], plain, POLITE]) == (POLITE, None)
    assert goal_of(sweep, [POLITE, *METRICS[:3]]) == (METRICS[2], None)
