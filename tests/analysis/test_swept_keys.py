"""Tests of the shapes of trends."""

import numpy as np

from harness.analysis.metric_catalog import metric_of
from harness.analysis.prompt_values import PromptValues
from harness.analysis.swept import SweptKey
from harness.analysis.swept_keys import _shape, trends_of

X = (0.2, 0.5, 0.8, 1.1)


def test_an_optimum_needs_a_bend_and_two_ends_that_are_worse() -> None:
    assert _shape(0.0, 0.6, 0.001, X, (0.5, 0.8)) == "optimum"
    assert _shape(0.0, 0.6, 0.2, X, (0.5, 0.8)) == "flat"


def test_a_curve_that_levels_off_has_no_optimum() -> None:
    assert _shape(1.0, 0.01, 0.001, X, (0.8, 1.1)) == "rises"
    assert _shape(-1.0, 0.01, 0.001, X, (0.2, 0.5)) == "falls"
    assert _shape(1.0, 0.3, 0.001, X, (0.8, 1.1)) == "curved"


def test_what_is_the_same_at_all_values_has_no_trend() -> None:
    """Weights of a slope over 1, 2 and 4 do not sum to 0 exactly."""
    labels = {"a": 1.0, "b": 2.0, "c": 4.0}
    key = SweptKey("decoding.x", (1.0, 2.0, 4.0), labels, dict.fromkeys(labels, ""))
    rows = {"a": 0, "b": 1, "c": 2}
    prompts = tuple((str(number), None) for number in range(24))
    same = PromptValues(prompts, rows, np.ones((3, 24), bool), {"output_tokens": np.full((3, 24), 200.0)})
    ((trend,), _) = trends_of([key], same, [metric_of("text/output_tokens")], set())
    assert (trend.slope, trend.shape) == (0.0, "flat")
