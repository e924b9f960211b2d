"""pass@k and the weights of ranks, compared with every subset."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from harness.analysis.selection.pass_at_k import best_rank_weights, pass_at_k


@pytest.mark.parametrize("samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(samples: int) -> None:
    for correct in range(samples + 1):
        right = [True] * correct + [False] * (samples - correct)
        expected = [
            np.mean([any(right[i] for i in chosen) for chosen in combinations(range(samples), k)])
            for k in range(1, samples + 1)
        ]
        assert pass_at_k(samples, correct) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_of_the_paper() -> None:
    # n=200, c=5: 1 - C(195, 100) / C(200, 100) in exact integers
    assert pass_at_k(200, 5)[99] == pytest.approx(1 - comb(195, 100) / comb(200, 100), rel=1e-12)
    assert pass_at_k(4, 1).tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert np.isfinite(pass_at_k(100_000, 3)).all()


@pytest.mark.parametrize("samples", [1, 3, 6])
def test_rank_weights_are_the_share_of_subsets_in_which_a_rank_is_the_best(samples: int) -> None:
    for size in range(1, samples + 1):
        counts = np.zeros(samples)
        for chosen in combinations(range(samples), size):
            counts[min(chosen)] += 1
        assert best_rank_weights(samples, size) == pytest.approx(counts / counts.sum(), abs=1e-12)
