"""chrF of pairs, compared with sacrebleu."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.metrics.reference_metrics import chrf
from harness.analysis.selection.chrf_pairs import chrf_matrix

TEXTS = [
    "the fox sat by the fire", "the fox sat by a fire", "a dog barked", "", " \n", "a", "ab", "é è 😀 x",
    "aaaaaaaaaaaa", "the fox sat by the fire", "THE FOX",
]  # fmt: skip


def test_every_pair_is_sacrebleus() -> None:
    expected = [[chrf(a, b) for b in TEXTS] for a in TEXTS]
    assert chrf_matrix(TEXTS) == pytest.approx(np.array(expected), abs=1e-9)
