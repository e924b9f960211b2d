"""Gumbels under the condition of their maximum, against formulas in high precision and against draws."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from scipy.stats import gumbel_r, kstest, pearsonr

from harness.decoding.gumbel import gumbel
from harness.decoding.perturbed import child_state, conditioned, perturbed_children, root_noise, root_state


def test_children_by_the_definition_in_high_precision() -> None:
    """-log(exp(-G) - exp(-Z) + exp(-g)); the largest becomes G itself."""
    getcontext().prec = 60
    values = [-3.0, 1.5, -40.0, 1.4999, 0.2]
    for largest in (-50.0, -2.0, 0.0, 1.5, 30.0):
        rows = torch.tensor([values], dtype=torch.float64)
        found = conditioned(torch.tensor([largest], dtype=torch.float64), rows)[0].tolist()
        z = Decimal(max(values))
        for value, one in zip(values, found, strict=True):
            inner = (-Decimal(largest)).exp() - (-z).exp() + (-Decimal(value)).exp()
            assert one == pytest.approx(float(-inner.ln()), rel=1e-9, abs=1e-9)
        assert max(found) == pytest.approx(largest, abs=1e-12)


def test_removed_tokens_stay_removed() -> None:
    rows = torch.tensor([[-math.inf, 0.3, -math.inf], [-math.inf] * 3], dtype=torch.float64)
    found = conditioned(torch.tensor([2.0, 1.0], dtype=torch.float64), rows)
    assert found.tolist() == [[-math.inf, 2.0, -math.inf], [-math.inf] * 3]


def test_two_levels_of_a_tree_have_the_noise_of_its_leaves() -> None:
    """Leaves' values less their log-probabilities are standard Gumbels, independent of each other."""
    p = np.array([[0.1, 0.25, 0.05], [0.3, 0.2, 0.1]])
    log_p, own = torch.tensor(p).log(), torch.tensor(p.sum(1)).log()
    noise = []
    for seed in range(1500):
        state = root_state(seed, "p")
        top = perturbed_children(
            torch.tensor([root_noise(state)], dtype=torch.float64), torch.tensor([state]), own[None]
        )[0]
        children = torch.tensor([child_state(state, token) for token in range(2)])
        noise.append((perturbed_children(top, children, log_p) - log_p).flatten().numpy())
    columns = np.array(noise).T
    for column in columns:
        assert kstest(column, gumbel_r.cdf).pvalue > 1e-3
    for i in range(6):
        for j in range(i):
            assert pearsonr(columns[i], columns[j]).pvalue > 1e-4


def test_the_noise_of_a_text_is_its_own() -> None:
    """Another seed, prompt, prefix or order of its tokens: another hash, within 64 bits."""
    states = {
        child_state(child_state(root_state(seed, prompt), first), second)
        for seed in range(3)
        for prompt in ("a", "b")
        for first in range(20)
        for second in range(20)
    }
    assert len(states) == 3 * 2 * 400
    assert all(-(2**63) <= state < 2**63 for state in states)
    noise = [float(gumbel(torch.tensor(state), torch.tensor(5))) for state in states]
    assert kstest(noise, gumbel_r.cdf).pvalue > 1e-3
