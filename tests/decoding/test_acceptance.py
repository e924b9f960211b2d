"""The chance that two draws with the same Gumbel noise agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.decoding.acceptance import coupling_acceptance, overlap
from harness.decoding.gumbel import draw


def by_definition(p: Tensor, q: Tensor) -> Tensor:
    """Sum over x of 1 / sum_y max(p_y / p_x, q_y / q_x), term by term."""
    rows = []
    for one, other in zip(p.double(), q.double(), strict=True):
        terms = [
            1 / torch.maximum(one / one[x], other / other[x]).sum()
            for x in range(len(one))
            if one[x] > 0 and other[x] > 0
        ]
        rows.append(sum(terms, start=torch.tensor(0.0, dtype=torch.float64)))
    return torch.stack(rows)


def random_pair(rows: int, vocabulary: int, seed: int) -> tuple[Tensor, Tensor]:
    """Distributions of any sharpness, some tokens of which were removed from one, the other or both."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, rows, vocabulary, generator=generator) * 3
    removed = torch.rand(2, rows, vocabulary, generator=generator) < 0.3
    p, q = logits.masked_fill(removed, float("-inf")).softmax(-1).nan_to_num(1 / vocabulary)
    return p, q


def test_worked_numbers() -> None:
    p, q = torch.tensor([[0.5, 0.3, 0.15, 0.05]]), torch.tensor([[0.2, 0.5, 0.1, 0.2]])
    assert coupling_acceptance(p, q).item() == pytest.approx(0.2 + 0.280374 + 0.088235 + 0.05, abs=1e-6)
    assert overlap(p, q).item() == pytest.approx(0.65, abs=1e-6)


def test_it_is_the_definition_and_keeps_its_bounds() -> None:
    p, q = random_pair(300, 11, seed=1)
    found, shared = coupling_acceptance(p, q), overlap(p, q)
    torch.testing.assert_close(found, by_definition(p, q))
    torch.testing.assert_close(found, coupling_acceptance(q, p))
    assert (found <= shared + 1e-9).all()
    assert (found >= shared / (2 - shared) - 1e-9).all()  # (1 - TV) / (1 + TV)
    torch.testing.assert_close(coupling_acceptance(p, p), torch.ones(300, dtype=torch.float64))


def test_draws_with_the_noise_of_the_samples_agree_as_often() -> None:
    p, q = random_pair(8, 40, seed=2)
    count = 4000
    keys = torch.arange(count) * 7919 + 13
    expected = coupling_acceptance(p, q)
    for row in range(len(p)):
        one, other = (x[row].log().expand(count, -1) for x in (p, q))
        agreed = (draw(one, keys, row) == draw(other, keys, row)).double().mean()
        error = (expected[row] * (1 - expected[row]) / count).sqrt()
        assert abs(float(agreed - expected[row])) <= 4 * float(error) + 1e-12
