"""The recorder sees both distributions at each step and keeps O(rows x k) of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.results.records import Steps

_NEG_INF = float("-inf")


class Recorder:
    """Collects what `records.Steps` holds, for the R rows of a batch, step by step."""

    def __init__(self, top_k: int) -> None:
        """Keep the `top_k` likeliest alternatives of each step."""
        self._top_k = top_k
        self._steps: list[dict[str, Tensor]] = []

    def observe(self, raw: Tensor, warped: Tensor, tokens: Tensor) -> None:
        """Record one step.

        Args:
            raw: (R, V) the model's logits, float32.
            warped: (R, V) what was drawn from, as logits; `raw` itself where nothing changed them.
            tokens: (R,) the chosen ids.
        """
        chosen = tokens[:, None]
        raw_log = raw.log_softmax(-1)
        raw_p = raw_log.exp()
        logprob = raw_log.gather(1, chosen)
        top = raw_log.topk(min(self._top_k, raw.shape[1]), dim=-1)
        step = {
            "token_id": tokens,
            "logprob": logprob[:, 0],
            "rank": (raw_log > logprob).sum(-1, dtype=torch.int32) + 1,
            "entropy": _entropy(raw_log, raw_p),
            "top_ids": top.indices,
            "top_logprobs": top.values,
        }
        if warped is raw:
            warped_log, warped_p = raw_log, raw_p
            step["warped_entropy"] = step["entropy"]
        else:
            warped_log = warped.log_softmax(-1)
            warped_p = warped_log.exp()
            step["warped_entropy"] = _entropy(warped_log, warped_p)
        left = warped_log > _NEG_INF
        step["kept"] = left.sum(-1, dtype=torch.int32)
        step["kept_mass"] = _dot(raw_p, left.to(raw_p.dtype)).clamp_(max=1.0)
        step["warped_logprob"] = warped_log.gather(1, chosen)[:, 0]
        step["top_warped_logprobs"] = warped_log.gather(1, top.indices)
        self._steps.append(step)

    def finish(self) -> RecordedRows:
        """Bring what was recorded to the CPU, once."""
        names = self._steps[0] if self._steps else ()
        return RecordedRows(
            {name: torch.stack([step[name] for step in self._steps]).cpu().numpy() for name in names}
        )


class RecordedRows:
    """What was recorded of a batch: (T, R) and (T, R, k) arrays by name."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays

    def steps(self, row: int, length: int) -> Steps:
        """The first `length` steps of one row."""
        return Steps(**{name: values[:length, row].copy() for name, values in self._arrays.items()})


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise dot product of (R, V) tensors: (R,), without an (R, V) intermediate."""
    return torch.einsum("rv,rv->r", a, b)


def _entropy(log_p: Tensor, p: Tensor) -> Tensor:
    """Entropy in nats of (R, V) distributions; a token without mass adds nothing."""
    return -_dot(p, log_p.clamp(min=torch.finfo(log_p.dtype).min))
