"""The recorder sees both distributions at each step and keeps O(texts x k) of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.results.records import Steps

_NEG_INF = float("-inf")


@dataclass(frozen=True)
class Seen:
    """One step's raw distributions, a row each: what all strategies that stand there share.

    Attributes:
        logits: (R, V) float32.
        log_p, p: (R, V) its log_softmax and softmax.
        entropy: (R,) nats.
        top_ids, top_logprobs: (R, k) the likeliest tokens, likeliest first.
    """

    logits: Tensor
    log_p: Tensor
    p: Tensor
    entropy: Tensor
    top_ids: Tensor
    top_logprobs: Tensor


class Recorder:
    """Collects what `records.Steps` holds, for texts numbered by the caller."""

    def __init__(self, top_k: int) -> None:
        """Keep the `top_k` likeliest alternatives of each step."""
        self._top_k = top_k
        self._texts: list[Sequence[int]] = []
        self._values: list[dict[str, Tensor]] = []

    def look(self, logits: Tensor) -> Seen:
        """What is recorded of the raw distributions of a step; logits are (R, V), float32."""
        log_p, p = logits.log_softmax(-1), logits.softmax(-1)
        entropy = _entropy(log_p.clone(), p.clone())
        top = log_p.topk(min(self._top_k, logits.shape[1]), dim=-1)
        return Seen(logits, log_p, p, entropy, top.indices, top.values)

    def observe(
        self,
        texts: Sequence[int],
        seen: Seen,
        rows: Tensor,
        tokens: Tensor,
        warped: Tensor | None = None,
        places: Tensor | None = None,
    ) -> None:
        """Record one step of texts that share a strategy.

        Args:
            texts: (N,) their numbers; a text's steps are recorded in order.
            seen: the step's raw distributions.
            rows: (N,) the row at which each text stands.
            tokens: (N,) the tokens they chose.
            warped: (M, V) logits that were drawn from, one a distinct row; None where nothing warped them.
            places: (N,) each text's index into `warped`.
        """
        logprob = seen.log_p[rows, tokens]
        values = {
            "token_id": tokens,
            "logprob": logprob,
            "rank": _rank(seen, rows, logprob),
            "entropy": seen.entropy[rows],
            "top_ids": seen.top_ids[rows],
            "top_logprobs": seen.top_logprobs[rows],
        }
        if warped is None or places is None:
            values |= {
                "warped_logprob": logprob,
                "warped_entropy": values["entropy"],
                "kept": (seen.log_p > _NEG_INF).sum(-1, dtype=torch.int32)[rows],
                "kept_mass": torch.ones_like(logprob),
                "top_warped_logprobs": values["top_logprobs"],
            }
        else:
            first = torch.zeros(len(warped), dtype=rows.dtype, device=rows.device)
            of_place = first.scatter_(0, places, rows)
            log_q = warped.log_softmax(-1)
            left = log_q > _NEG_INF
            values |= {
                "warped_logprob": log_q[places, tokens],
                "top_warped_logprobs": log_q.gather(1, seen.top_ids[of_place])[places],
                "kept": left.sum(-1, dtype=torch.int32)[places],
                "kept_mass": seen.p.index_select(0, of_place).mul_(left).sum(-1).clamp_(max=1.0)[places],
                "warped_entropy": _entropy(log_q, warped.softmax(-1))[places],
            }
        self._texts.append(texts)
        self._values.append(values)

    def finish(self) -> Recorded:
        """Bring what was recorded to the CPU, once, each text's steps together."""
        texts = np.concatenate(
            [np.asarray(some, dtype=np.int64) for some in self._texts] or [np.zeros(0, int)]
        )
        order = np.argsort(texts, kind="stable")
        arrays = {}
        for name in self._values[0] if self._values else ():
            arrays[name] = torch.cat([values[name] for values in self._values]).cpu().numpy()[order]
        return Recorded(texts[order], arrays)


class Recorded:
    """What was recorded: arrays by name over the steps of all texts, each text's steps in order."""

    def __init__(self, texts: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        self._texts = texts
        self._arrays = arrays

    def steps(self, text: int, length: int, top_k: int) -> Steps:
        """The first `length` steps of one text, with `top_k` alternatives at the most."""
        start = int(np.searchsorted(self._texts, text))
        own = {name: values[start : start + length] for name, values in self._arrays.items()}
        return Steps(
            **{
                name: (values[:, :top_k] if values.ndim == 2 else values).copy()
                for name, values in own.items()
            }
        )


def _rank(seen: Seen, rows: Tensor, logprob: Tensor) -> Tensor:
    """(N,) 1 + how many tokens of a row are strictly likelier than one of log-probability `logprob`.

    The recorded alternatives tell it for most; on a CPU, where asking costs nothing, only the others are
    counted over the vocabulary.
    """
    rank = (seen.top_logprobs[rows] > logprob[:, None]).sum(-1, dtype=torch.int32) + 1
    beyond = rank > seen.top_logprobs.shape[1]
    if logprob.device.type == "cpu":
        far = beyond.nonzero()[:, 0]
        if len(far):
            likelier = seen.log_p.index_select(0, rows[far]) > logprob[far, None]
            rank[far] = likelier.sum(-1, dtype=torch.int32) + 1
        return rank
    counted = (seen.log_p.index_select(0, rows) > logprob[:, None]).sum(-1, dtype=torch.int32) + 1
    return torch.where(beyond, counted, rank)


def _entropy(log_p: Tensor, p: Tensor) -> Tensor:
    """Entropy in nats of (R, V) distributions, both overwritten; a token without mass adds nothing."""
    return p.mul_(log_p.clamp_(min=torch.finfo(log_p.dtype).min)).sum(-1).neg_()
