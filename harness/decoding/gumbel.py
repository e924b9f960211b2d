"""Gumbel noise that every strategy shares (common random numbers), from a counter-based hash.

A token is drawn as argmax(log-probability + Gumbel noise), which samples exactly from the distribution (the
Gumbel-max trick; Gumbel 1954, Maddison et al. 2014, "A* Sampling"). The noise is a pure function of (seed,
prompt id, sample, step, token id). So a sample does not depend on the rest of its batch, and strategies see
the same noise at the same step: they diverge only where their distributions do.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from harness.decoding import gumbel_cuda
from harness.decoding.gumbel_numpy import GAMMA, MIX_1, MIX_2, noise_key
from harness.decoding.logits import Logits
from harness.decoding.row_blocks import GROUP_SIZE, block_rows, first_argmax, group_maxima, group_members
from harness.decoding.sampler_chain import TruncatedLogits
from harness.decoding.upload import moved

__all__ = ["draw", "gumbel", "noise_key", "step_state", "uniform"]


def _signed(value: int) -> int:
    """Wrap an integer to signed 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


_GAMMA, _MIX_1, _MIX_2, _SIGN = map(_signed, (GAMMA, MIX_1, MIX_2, 1 << 63))

_LIKELY_GROUPS = 16
"""Groups of likely tokens, whose scores tell from which noise on others win."""


_FEW = 100_000
"""Logits of which the noise of all takes no longer than to find those that may win."""


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift int64 right logically; torch has only the arithmetic shift."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix_high(x: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser to int64, but for its last step, in place; multiplication wraps.

    The last step leaves the highest 31 bits as they are.
    """
    x.bitwise_xor_(_shift(x, 30)).mul_(_MIX_1)
    return x.bitwise_xor_(_shift(x, 27)).mul_(_MIX_2)


def _mix(x: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser to int64, in place."""
    x = _mix_high(x)
    return x.bitwise_xor_(_shift(x, 31))


def step_state(keys: Tensor, step: int) -> Tensor:
    """Return the hash state of each key at one step (int64, the shape of `keys`)."""
    return _mix(keys + _signed((step + 1) * _GAMMA))


def uniform(state: Tensor, token_ids: Tensor) -> Tensor:
    """Return uniform numbers in (0, 1), float64; state and token_ids (int64) broadcast."""
    return _uniform(state + (token_ids + 1) * _GAMMA)


def _uniform(counters: Tensor) -> Tensor:
    """Return uniform numbers from int64 counters, which are written over."""
    bits = _mix(counters)
    # 53 bits, half a step off zero and one: -log(-log(u)) needs the resolution near one.
    return _shift(bits, 11).to(torch.float64).add_(0.5).mul_(2.0**-53)


def gumbel(state: Tensor, token_ids: Tensor) -> Tensor:
    """Return standard Gumbel noise, float64; state and token_ids (int64) broadcast."""
    if state.device.type == "cuda" and torch.version.hip is None:
        return gumbel_cuda.gumbel(state, token_ids)
    return _gumbel(state + (token_ids + 1) * _GAMMA)


def _gumbel(counters: Tensor) -> Tensor:
    return _uniform(counters).log_().neg_().log_().neg_()


def draw(logits: Tensor | Logits | TruncatedLogits, keys: Tensor, step: int) -> Tensor:
    """Draw one token a row from softmax(logits).

    Args:
        logits: (R, V), -inf where a token was removed, or the few tokens that a truncation kept.
        keys: (R,) int64, `noise_key` of each row's sample; best on the host, where hashing them is cheap.
        step: index of the token being drawn, from 0.

    Returns:
        (R,) int64 token ids.
    """
    if isinstance(logits, Tensor):
        logits = Logits(logits)
    device = logits.logits.device if isinstance(logits, TruncatedLogits) else logits.device
    if device.type == "mps":  # has no float64
        if isinstance(logits, TruncatedLogits):
            return draw(TruncatedLogits(*(column.cpu() for column in logits)), keys.cpu(), step).to(device)
        return draw(logits.values.cpu(), keys.cpu(), step).to(device)
    state = moved(step_state(keys, step), device)[:, None]
    if isinstance(logits, TruncatedLogits):
        best = gumbel(state, logits.tokens).add_(logits.logits).argmax(dim=-1, keepdim=True)
        return logits.tokens.gather(1, best)[:, 0]
    vocabulary = logits.vocab_size
    few = len(logits) * vocabulary < _FEW or vocabulary < 2 * GROUP_SIZE * _LIKELY_GROUPS
    if device.type != "cpu" or few:
        return _draw_plainly(logits.values, state)
    return _draw_of_all(logits, state)


def _draw_plainly(logits: Tensor, state: Tensor) -> Tensor:
    """Return argmax(logits + noise) of (R, V) logits, with the noise of every token."""
    every = torch.arange(logits.shape[1], device=logits.device)
    rows = block_rows(logits, share=0.5)  # the noise is in float64
    tokens = [
        first_argmax(gumbel(states, every).add_(some))
        for states, some in zip(state.split(rows), logits.split(rows), strict=True)
    ]
    return torch.cat(tokens)


def _draw_of_all(logits: Logits, state: Tensor) -> Tensor:
    """Return the same, with noise computed only of tokens that may win.

    A token wins with noise of at least the best score among likely tokens less the largest logit of its
    group, that is with a hash from some number on; the highest 31 bits of which are compared for all tokens.
    """
    vocabulary, maxima = logits.vocab_size, logits.maxima()
    groups = maxima.topk(_LIKELY_GROUPS, sorted=False).indices
    likely = group_members(groups[:, :, None], vocabulary).flatten(1)
    scores = gumbel(state, likely).add_(logits.at(torch.arange(len(logits))[:, None], likely))
    least = scores.amax(-1, keepdim=True)
    if not bool((least.isfinite() & maxima.amax(-1, keepdim=True).isfinite()).all()):
        return _draw_plainly(logits.values, state)
    high = (maxima - least).exp_().neg_().exp_().mul_(2.0**31).floor_()  # u of the noise, see `_uniform`
    from_hash = (high.long() - 1).clamp_(min=0).sub_(1 << 30).mul_(1 << 33)
    rows = block_rows(maxima, share=0.5 / GROUP_SIZE)  # hashes are int64, sixteen a group
    counters = _counters(vocabulary, logits.device)
    # Counters first: torch multiplies the second operand of a sum by alpha, value by value.
    found = [
        group_maxima(_mix_high(counters + states).bitwise_xor_(_SIGN)) >= some
        for states, some in zip(state.split(rows), from_hash.split(rows), strict=True)
    ]
    row, group = torch.cat(found).nonzero().unbind(1)
    tokens = group_members(group[:, None], vocabulary)
    scores = gumbel(state[row], tokens).add_(logits.at(row[:, None], tokens))
    best = torch.full_like(least[:, 0], -math.inf).scatter_reduce(0, row, scores.amax(-1), "amax")
    # Of equal scores the lowest token id, as argmax returns.
    first = torch.where(scores == best[row, None], tokens, vocabulary).amin(-1)
    return row.new_full((len(logits),), vocabulary).scatter_reduce(0, row, first, "amin")


@lru_cache(maxsize=4)
def _counters(vocabulary: int, device: torch.device) -> Tensor:
    """Return (V,) what each token id adds to a state."""
    return (torch.arange(vocabulary, device=device) + 1) * _GAMMA
