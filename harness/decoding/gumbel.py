"""Luck that every strategy shares: Gumbel noise from a counter-based hash.

A token is drawn as argmax(log-probability + Gumbel noise), which samples exactly from the distribution
(the Gumbel-max trick; Gumbel 1954, Maddison et al. 2014, "A* Sampling"). The noise is a pure function of
(seed, prompt id, sample, step, token id). So a sample does not depend on what else is in its batch, and
strategies that face the same step face the same noise: they part only where their distributions do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.decoding.gumbel_numpy import GAMMA, MIX_1, MIX_2, noise_key
from harness.decoding.truncation import Kept

__all__ = ["draw", "gumbel", "noise_key", "step_state", "uniform"]

# The odd constants of SplitMix64 as signed 64-bit integers.
_GAMMA = GAMMA - (1 << 64)
_MIX_1 = MIX_1 - (1 << 64)
_MIX_2 = MIX_2 - (1 << 64)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, which has only an arithmetic one."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """An integer wrapped to signed 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, in place; multiplication wraps."""
    x.bitwise_xor_(_shift(x, 30)).mul_(_MIX_1)
    x.bitwise_xor_(_shift(x, 27)).mul_(_MIX_2)
    return x.bitwise_xor_(_shift(x, 31))


def step_state(keys: Tensor, step: int) -> Tensor:
    """The state of each key's luck at one step (int64, the shape of `keys`)."""
    return _mix(keys + _signed((step + 1) * _GAMMA))


def uniform(state: Tensor, token_ids: Tensor) -> Tensor:
    """Uniform numbers in the open interval (0, 1), float64; state and token_ids (int64) broadcast."""
    bits = _mix(state + (token_ids + 1) * _GAMMA)
    # 53 bits, half a step off zero and one: -log(-log(u)) needs the resolution near one.
    return _shift(bits, 11).to(torch.float64).add_(0.5).mul_(2.0**-53)


def gumbel(state: Tensor, token_ids: Tensor) -> Tensor:
    """Standard Gumbel noise, float64; state and token_ids (int64) broadcast."""
    return uniform(state, token_ids).log_().neg_().log_().neg_()


def draw(scores: Tensor | Kept, keys: Tensor, step: int) -> Tensor:
    """Draw one token a row from softmax(scores).

    Args:
        scores: (R, V) logits, -inf where a token was cut, or what a truncation left of them. Noise is hashed
            for all tokens that are there.
        keys: (R,) int64, `luck_key` of each row's sample.
        step: index of the token being drawn, from 0.

    Returns:
        (R,) int64 token ids.
    """
    device = keys.device
    if device.type == "mps":  # has no float64
        on_cpu = Kept(*(one.cpu() for one in scores)) if isinstance(scores, Kept) else scores.cpu()
        return draw(on_cpu, keys.cpu(), step).to(device)
    state = step_state(keys, step)[:, None]
    if isinstance(scores, Kept):
        best = gumbel(state, scores.tokens).add_(scores.scores).argmax(dim=-1, keepdim=True)
        return scores.tokens.gather(1, best)[:, 0]
    everything = torch.arange(scores.shape[1], device=device)
    return gumbel(state, everything[None, :]).add_(scores).argmax(dim=-1)
