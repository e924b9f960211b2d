"""The noise floor's arithmetic, by hand."""

import math

from harness.analysis.noise_floor import changes, mean_metrics


def test_means_are_over_samples_that_have_the_metric() -> None:
    samples = [
        {"mean_logprob": -1.0, "distinct_2": 0.5, "unknown": 3.0},
        {"mean_logprob": -2.0, "distinct_2": math.nan},
    ]
    assert mean_metrics(samples) == {"probability/mean_logprob": -1.5, "text/distinct_2": 0.5}
    assert mean_metrics([]) == {}


def test_the_largest_change_counts() -> None:
    first = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert changes(first, [{"a": 1.0, "b": 2.5}, {"a": 0.5, "b": 2.25}]) == {"a": 0.5, "b": 0.5}
    assert changes(first, []) == {}
