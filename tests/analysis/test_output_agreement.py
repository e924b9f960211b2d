"""Agreement of outputs, by hand and by brute force."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from fake_points import TEXTS_ONLY, make_sweep, write_samples
from scored_sweep import scored_sweep

from harness.analysis.output_agreement import agreement, mean_agreement, pairwise_agreement
from harness.analysis.point_results import PointResult, point_results
from harness.store.sweeps import SweepPoint


def test_it_is_the_common_prefix_over_the_longer_output() -> None:
    outputs = [np.array([1, 2, 3, 4]), np.array([1, 2, 9]), np.array([1, 2, 3, 4]), np.array([], int), None]
    expected = [
        [1, 2 / 4, 1, 0, np.nan],
        [2 / 4, 1, 2 / 4, 0, np.nan],
        [1, 2 / 4, 1, 0, np.nan],
        [0, 0, 0, 1, np.nan],
        [np.nan] * 5,
    ]
    np.testing.assert_allclose(pairwise_agreement(outputs), expected)


def test_it_is_what_brute_force_finds() -> None:
    rng = random.Random(0)
    outputs = [np.array([rng.randrange(2) for _ in range(rng.randrange(6))], int) for _ in range(20)]
    found = pairwise_agreement(outputs)
    for i, one in enumerate(outputs):
        for j, other in enumerate(outputs):
            common = 0
            while common < min(len(one), len(other)) and one[common] == other[common]:
                common += 1
            assert found[i, j] == pytest.approx(
                common / max(len(one), len(other), 1) if len(one) + len(other) else 1
            )


def test_prompts_count_the_same_whatever_their_number_of_samples() -> None:
    same, other = np.array([1]), np.array([2])
    one = {("a", 0): same, ("a", 1): same, ("b", 0): same}
    two = {("a", 0): same, ("a", 1): other, ("b", 0): same, ("c", 0): same}
    np.testing.assert_allclose(mean_agreement([one, two]), [[1, 0.75], [0.75, 1]])
    assert np.isnan(mean_agreement([one, {}])[0, 1])


def test_points_are_compared_by_the_texts_of_their_tokens(tmp_path: Path) -> None:
    found = agreement(point_results(scored_sweep(tmp_path / "outputs")))
    assert found is not None
    assert (found.unit, found.prompts) == ("token", 3)
    # greedy and top_p: " Lisbon." is the same, of " red, blue" and " Hello there." nothing.
    assert found.matrix[0, 1] == pytest.approx(1 / 3)
    # top_p and temperature: nothing in common.
    assert found.matrix[1, 2] == 0
    # greedy and temperature: " Hello there." only.
    assert found.matrix[0, 2] == pytest.approx(1 / 3)
    assert (np.diag(found.matrix) == 1).all()


def test_without_tokens_words_are_compared(tmp_path: Path) -> None:
    points = [
        PointResult(
            SweepPoint(name, name, "m", "q", "p", name, status="done"),
            write_samples(tmp_path, name, [sample]),
        )
        for name, sample in (("a", TEXTS_ONLY), ("b", TEXTS_ONLY))
    ]
    found = agreement(points)
    assert found is not None
    assert found.unit == "word"
    np.testing.assert_allclose(found.matrix, 1)


def test_a_single_point_and_too_many_have_no_matrix(tmp_path: Path) -> None:
    points = point_results(make_sweep(tmp_path / "outputs", models=("m",), failed="top_p", tokens=5))
    found = agreement(points)
    assert found is not None
    assert np.isnan(found.matrix[1]).all()  # the failed one
    assert agreement(points[:1]) is None
    assert agreement(points * 21) is None
