"""The noise of `gumbel.py` in one CUDA kernel, which otherwise takes twenty-three over all tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from harness.decoding.gumbel_numpy import GAMMA, MIX_1, MIX_2

_SOURCE = f"""
template <typename T> T gumbel_bits(T state, T token) {{
    unsigned long long x = (unsigned long long)state + ((unsigned long long)token + 1ULL) * {GAMMA}ULL;
    x = (x ^ (x >> 30)) * {MIX_1}ULL;
    x = (x ^ (x >> 27)) * {MIX_2}ULL;
    x ^= x >> 31;
    double u = ((double)(x >> 11) + 0.5) * {2.0**-53!r};
    return __double_as_longlong(-log(-log(u)));
}}
"""
"""Inputs and output of such a kernel have one type: what is returned are the bits of a float64."""


def gumbel(state: Tensor, token_ids: Tensor) -> Tensor:
    """Return standard Gumbel noise, float64; state and token_ids (int64, on a CUDA device) broadcast."""
    return _kernel()(state, token_ids).view(torch.float64)


@cache
def _kernel() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the kernel, which is compiled when it is first called, and kept by torch for later processes."""
    return torch.cuda.jiterator._create_jit_fn(_SOURCE)  # type: ignore[no-any-return]
