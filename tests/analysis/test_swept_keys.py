"""Tests of the shapes of trends."""

from harness.analysis.swept_keys import _shape

X = (0.2, 0.5, 0.8, 1.1)


def test_an_optimum_needs_a_bend_and_two_ends_that_are_worse() -> None:
    assert _shape(0.0, 0.6, 0.001, X, (0.5, 0.8)) == "optimum"
    assert _shape(0.0, 0.6, 0.2, X, (0.5, 0.8)) == "flat"


def test_a_curve_that_levels_off_has_no_optimum() -> None:
    assert _shape(1.0, 0.01, 0.001, X, (0.8, 1.1)) == "rises"
    assert _shape(-1.0, 0.01, 0.001, X, (0.2, 0.5)) == "falls"
    assert _shape(1.0, 0.3, 0.001, X, (0.8, 1.1)) == "curved"
