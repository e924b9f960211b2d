"""What a strategy's samplers make of logits, over the whole vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from harness.config.decoding import Decoding
from harness.config.effective import NEUTRAL, effective_decoding
from harness.decoding.logits import Logits
from harness.decoding.sampler_chain import Drawable, SamplerChain, StateOfRows, TruncatedLogits
from harness.decoding.sampler_settings import SamplerSettings, sampler_settings


def sampling(**fields: Any) -> dict[str, Any]:
    """Return the effective decoding of a strategy that samples; fields may be outside the range of a config.

    A field that refines another is taken as it is.
    """
    plain = effective_decoding(Decoding(name="x", do_sample=True))
    return {**plain, **{key: value for key, value in fields.items() if value != NEUTRAL[key]}} | {
        key: value for key, value in fields.items() if key in plain
    }


def settings(**fields: Any) -> SamplerSettings:
    """Return the samplers of a strategy."""
    found = sampler_settings(sampling(**fields))
    assert found is not None
    return found


def sampled(
    logits: torch.Tensor, states: Mapping[str, Sequence[float]] | None = None, **fields: Any
) -> torch.Tensor:
    """Return (M, V) what the samplers make of (M, V) logits, -inf where a token was removed."""
    found = {name: torch.tensor(list(values)) for name, values in (states or {}).items()}
    rows = list(range(len(logits)))
    chain = SamplerChain([settings(**fields)], "cpu")
    return dense(chain(Logits(logits), [0] * len(rows), [StateOfRows(rows, found)]), logits)


def dense(groups: Sequence[Drawable], logits: torch.Tensor) -> torch.Tensor:
    """Return the groups' logits over the vocabulary; every row must be in one of them."""
    count = sum(len(group.rows) for group in groups)
    assert sorted(row for group in groups for row in group.rows) == list(range(count)), "every row once"
    everything = torch.full((count, logits.shape[1]), float("-inf"))
    for rows, left, _ in groups:
        if isinstance(left, TruncatedLogits):
            everything[rows] = everything[rows].scatter_(1, left.tokens, left.logits)
        else:
            everything[rows] = left.values
    return everything
