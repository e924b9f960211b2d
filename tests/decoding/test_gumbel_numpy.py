"""The noise in NumPy equals the noise in torch: the same uniform numbers, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from harness.decoding import gumbel as in_torch
from harness.decoding import gumbel_numpy as in_numpy


@pytest.mark.parametrize("key", [0, 1, -1, in_numpy.noise_key(7, "p1", 3), -(2**63), 2**63 - 1])
@pytest.mark.parametrize("step", [0, 1, 500])
def test_equal_to_torch(key: int, step: int) -> None:
    ids = np.array([0, 1, 2, 999, 151_935, 262_143])
    state = in_torch.step_state(torch.tensor([key]), step)
    states = in_numpy.step_states(np.array([key]), np.array([step]))
    expected = in_torch.uniform(state[:, None], torch.tensor(ids)[None]).numpy()
    found = in_numpy.uniform(states[:, None], ids[None])
    assert found.dtype == np.float64
    assert found.tobytes() == expected.tobytes()
    expected = in_torch.gumbel(state[:, None], torch.tensor(ids)[None]).numpy()
    np.testing.assert_allclose(in_numpy.gumbel(states[:, None], ids[None]), expected, rtol=1e-14, atol=1e-14)


def test_a_state_for_every_key_and_step() -> None:
    keys = np.array([in_numpy.noise_key(0, "a", 0), in_numpy.noise_key(0, "a", 1)])
    steps = np.array([4, 9])
    states = in_numpy.step_states(keys, steps)
    for key, step, state in zip(keys, steps, states, strict=True):
        assert in_torch.step_state(torch.tensor([key]), int(step)).numpy().astype(np.uint64) == state


@pytest.mark.parametrize("key", [0, -1, 2**63 - 1, in_numpy.noise_key(7, "p1", 3)])
def test_a_key_whose_first_step_is_a_later_one_of_another(key: int) -> None:
    for step in (0, 1, 77, 100_000):
        moved = in_numpy.key_of_step(key, step)
        assert -(2**63) <= moved < 2**63
        for further in (0, 5):
            expected = in_numpy.step_states(np.array([key]), np.array([step + further]))
            assert in_numpy.step_states(np.array([moved]), np.array([further])) == expected


def test_needs_no_torch() -> None:
    code = "import harness.decoding.gumbel_numpy, sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
