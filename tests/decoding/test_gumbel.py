"""Gumbel noise: the hash equals one on Python integers, its distribution the exact one."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from harness.decoding.gumbel import draw, gumbel, noise_key, step_state, uniform

MASK = (1 << 64) - 1


def splitmix(x: int) -> int:
    """SplitMix64's finaliser on unsigned Python integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def expected_uniform(key: int, step: int, token: int) -> float:
    gamma = 0x9E3779B97F4A7C15
    state = splitmix((key + (step + 1) * gamma) & MASK)
    bits = splitmix((state + (token + 1) * gamma) & MASK)
    return ((bits >> 11) + 0.5) / 2**53


@pytest.mark.parametrize("key", [0, 1, -1, noise_key(7, "p1", 3), -(2**63), 2**63 - 1])
def test_the_hash_equals_unsigned_arithmetic(key: int) -> None:
    keys = torch.tensor([key])
    for step in (0, 1, 500):
        for token in (0, 1, 151_935):
            got = uniform(step_state(keys, step), torch.tensor([token])).item()
            assert got == pytest.approx(expected_uniform(key & MASK, step, token), abs=1e-15)
            assert 0.0 < got < 1.0


def test_keys_differ_by_seed_prompt_and_sample() -> None:
    keys = {noise_key(seed, prompt, sample) for seed in range(5) for prompt in "abc" for sample in range(5)}
    assert len(keys) == 75
    assert noise_key(1, "a", 0) == noise_key(1, "a", 0)


def test_noise_is_standard_gumbel_and_uncorrelated_between_neighbours() -> None:
    state = step_state(torch.tensor([noise_key(0, "p", s) for s in range(40)]), 0)
    noise = gumbel(state[:, None], torch.arange(500)[None, :])
    assert stats.kstest(noise.flatten().numpy(), stats.gumbel_r.cdf).pvalue > 1e-3
    across_tokens = torch.corrcoef(torch.stack([noise[:, :-1].flatten(), noise[:, 1:].flatten()]))[0, 1]
    across_rows = torch.corrcoef(torch.stack([noise[:-1].flatten(), noise[1:].flatten()]))[0, 1]
    assert abs(across_tokens) < 4 / math.sqrt(noise.numel())
    assert abs(across_rows) < 4 / math.sqrt(noise.numel())


def test_draws_have_the_distribution_of_the_scores() -> None:
    scores = torch.tensor([2.0, 1.0, 0.0, float("-inf"), -1.0, 3.0])
    n = 20_000
    keys = torch.tensor([noise_key(0, "p", sample) for sample in range(n)])
    for step in (0, 3):
        tokens = draw(scores.expand(n, -1), keys, step)
        counts = torch.bincount(tokens, minlength=6)
        expected = scores.double().softmax(0) * n
        possible = expected > 0
        assert counts[~possible].sum() == 0
        assert stats.chisquare(counts[possible].numpy(), expected[possible].numpy()).pvalue > 1e-3


def test_a_draw_does_not_depend_on_the_batch_or_on_what_else_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(16, 50, generator=generator)
    keys = torch.tensor([noise_key(0, f"p{row}", 0) for row in range(16)])
    together = draw(scores, keys, 4)
    alone = torch.cat([draw(scores[row : row + 1], keys[row : row + 1], 4) for row in range(16)])
    assert torch.equal(together, alone)
    # Truncation that keeps the token that was drawn changes nothing: strategies share their noise.
    truncated = scores.clone()
    truncated[truncated < scores.gather(1, together[:, None])] = float("-inf")
    assert torch.equal(draw(truncated, keys, 4), together)
