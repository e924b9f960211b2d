"""The arithmetic of stochastic beam search: perturbed log-probabilities, and the noise of a text.

The log-probabilities of all sequences that begin with a text, each plus standard Gumbel noise, have a maximum
that is the text's own log-probability plus Gumbel noise. So a text's children get noise under the condition
that their maximum is what the text has (Kool et al. 2019, arXiv:1903.06059, section 4.1 and appendix B.3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.decoding.gumbel import gumbel
from harness.decoding.gumbel_numpy import GAMMA, MIX_1, MIX_2, noise_key

_WHOLE = (1 << 64) - 1


def root_state(seed: int, prompt_id: str) -> int:
    """Return the hash of a prompt with no continuation; no sample drawn otherwise has its noise."""
    return noise_key(seed, prompt_id, -1)


def child_state(state: int, token: int) -> int:
    """Return the hash of a text with one token more, as a signed integer."""
    mixed = _mix(_mix(state + (token + 1) * GAMMA) + GAMMA)
    return mixed - (1 << 64) if mixed >> 63 else mixed


def root_noise(state: int) -> float:
    """Return the Gumbel noise of a prompt, whose log-probability is 0."""
    return float(gumbel(torch.tensor(state), torch.tensor(-1)))


def perturbed_children(perturbed: Tensor, states: Tensor, logprobs: Tensor) -> Tensor:
    """Return (R, V) the perturbed log-probabilities of the children of R texts, -inf where they are removed.

    Args:
        perturbed: (R,) float64, those of the texts, which are the largest of their children's.
        states: (R,) int64, the texts' hashes.
        logprobs: (R, V) float64, log-probabilities of the children: the text's own plus the token's.
    """
    tokens = torch.arange(logprobs.shape[1], device=logprobs.device)
    return conditioned(perturbed, logprobs + gumbel(states[:, None], tokens[None, :]))


def conditioned(largest: Tensor, values: Tensor) -> Tensor:
    """Return (R, V) Gumbels `values` under the condition that the largest of each row is `largest` (R,)."""
    values = torch.where(values.isnan(), float("-inf"), values)
    above = values - values.amax(-1, keepdim=True)
    v = largest[:, None] - values + torch.log1p(-above.exp())
    found = largest[:, None] - v.clamp(min=0.0) - torch.log1p((-v.abs()).exp())
    return torch.where(values == float("-inf"), float("-inf"), found)


def _mix(x: int) -> int:
    """Apply SplitMix64's finaliser."""
    x &= _WHOLE
    x = (x ^ (x >> 30)) * MIX_1 & _WHOLE
    x = (x ^ (x >> 27)) * MIX_2 & _WHOLE
    return x ^ (x >> 31)
