"""What vLLM itself reports of each token: raw log-probabilities, ranks, the likeliest alternatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.store.records import Steps


def reported_steps(tokens: Sequence[int], logprobs: Sequence[Mapping[int, Any]], top_k: int) -> Steps:
    """Return the steps of a text; what vLLM does not tell is None.

    Args:
        tokens: the ids.
        logprobs: by id, vLLM's `Logprob` of the chosen token and of the likeliest ones, a step each.
        top_k: alternatives to keep.
    """
    tops = [sorted(step.items(), key=lambda one: one[1].rank)[:top_k] for step in logprobs]
    width = min([top_k, *map(len, tops)])
    return Steps(
        token_id=np.array(tokens, dtype=np.int64),
        logprob=_column([step[token].logprob for step, token in zip(logprobs, tokens, strict=True)]),
        rank=np.array([s[token].rank for s, token in zip(logprobs, tokens, strict=True)], dtype=np.int32),
        top_ids=np.array([[token for token, _ in top[:width]] for top in tops], dtype=np.int64),
        top_logprobs=_column([[one.logprob for _, one in top[:width]] for top in tops]),
    )


def _column(values: Sequence[Any]) -> np.ndarray:
    return np.array(values, dtype=np.float32)
