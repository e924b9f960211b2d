"""Tests of contrasts against least squares of numpy and scipy."""

import numpy as np
import pytest

from harness.analysis.statistics.contrasts import curvature, interaction, slope


def test_slope_and_curvature_are_those_of_polyfit() -> None:
    from scipy.stats import linregress

    x = np.array([0.2, 0.5, 0.7, 1.3])
    y = np.array([3.0, 1.0, 4.0, 1.5])
    assert slope(x) @ y == pytest.approx(linregress(x, y).slope)
    weights = curvature(x)
    assert weights is not None
    assert weights @ y == pytest.approx(np.polyfit(x, y, 2)[0])
    assert curvature(x[:2]) is None


def test_interaction_is_the_product_term_of_a_full_grid() -> None:
    first, second = (a.ravel() for a in np.meshgrid([0.1, 0.5, 1.0], [1.0, 4.0, 9.0]))
    y = np.random.default_rng(0).normal(size=9)
    design = np.stack([np.ones(9), first, second, first * second], axis=1)
    assert interaction(first, second) @ y == pytest.approx(np.linalg.lstsq(design, y)[0][3])
