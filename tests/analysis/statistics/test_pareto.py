"""The Pareto front on points that can be seen through."""

from __future__ import annotations

import numpy as np

from harness.analysis.statistics.pareto import pareto_front


def test_by_hand() -> None:
    # milliseconds (less is better), distinct words (more is better)
    values = np.array([[10, 0.5], [20, 0.9], [15, 0.4], [20, 0.8], [10, 0.5], [30, 0.9]])
    assert pareto_front(values, [False, True]).tolist() == [True, True, False, False, True, False]


def test_points_that_are_alike_share_the_front_and_one_alone_is_it() -> None:
    assert pareto_front(np.ones((3, 2)), [True, False]).all()
    assert pareto_front(np.array([[1.0, 2.0]]), [True, True]).tolist() == [True]


def test_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, size=(60, 3)).astype(float)
    higher = [True, False, True]

    def beaten(ours: np.ndarray) -> bool:
        sign = np.array([1, -1, 1])
        return any(
            all(a >= b for a, b in zip(sign * other, sign * ours, strict=True))
            and any(a > b for a, b in zip(sign * other, sign * ours, strict=True))
            for other in values
        )

    assert pareto_front(values, higher).tolist() == [not beaten(row) for row in values]
