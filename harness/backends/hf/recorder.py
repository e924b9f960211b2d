"""The recorder sees both distributions at each step and keeps O(texts x k) of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.decoding.scores import Scores, entropy_of
from harness.decoding.truncation import Kept
from harness.store.records import Steps

_NEG_INF = float("-inf")


@dataclass(frozen=True)
class Seen:
    """One step's raw distributions, a row each: what all strategies that stand there share.

    Attributes:
        scores: (R, V) logits, float32.
        log_p: (R, V) their log_softmax.
        entropy: (R,) nats.
        top_ids, top_logprobs: (R, k) the likeliest tokens, likeliest first.
    """

    scores: Scores
    log_p: Tensor
    entropy: Tensor
    top_ids: Tensor
    top_logprobs: Tensor


class Recorder:
    """Collects what `records.Steps` holds, for texts numbered by the caller."""

    def __init__(self, top_k: int) -> None:
        """Keep the `top_k` likeliest alternatives of each step."""
        self._top_k = top_k
        self._texts: list[Sequence[int]] = []
        self._chosen: list[tuple[Tensor, Tensor]] = []
        self._raw: list[dict[str, Tensor]] = []
        self._warped: list[dict[str, Tensor]] = []

    def look(self, logits: Tensor) -> Seen:
        """What is recorded of the raw distributions of a step; logits are (R, V), float32."""
        log_p = logits.log_softmax(-1)
        entropy = entropy_of(log_p)
        scores = Scores(logits, log_p, entropy)
        top_ids = scores.likeliest(min(self._top_k, logits.shape[1])).tokens
        return Seen(scores, log_p, entropy, top_ids, log_p.gather(1, top_ids))

    def observe(
        self,
        texts: Sequence[int],
        seen: Seen,
        rows: Tensor,
        tokens: Tensor,
        warped: Tensor | Kept | None = None,
        places: Tensor | None = None,
    ) -> None:
        """Record one step of texts that share a strategy; `end_step` follows when all texts were observed.

        Args:
            texts: (N,) their numbers; a text's steps are recorded in order.
            seen: the step's raw distributions.
            rows: (N,) the row at which each text stands.
            tokens: (N,) the tokens they chose.
            warped: (M, V) logits that were drawn from, one a distinct row, or what was left of them; None
                where nothing warped them.
            places: (N,) each text's index into `warped`.
        """
        self._texts.append(texts)
        self._chosen.append((rows, tokens))
        if warped is None or places is None:
            logprob = seen.log_p[rows, tokens]
            values = {
                "warped_logprob": logprob,
                "warped_entropy": seen.entropy[rows],
                "kept": _left(seen.log_p.index_select(0, rows)),
                "kept_mass": torch.ones_like(logprob),
                "top_warped_logprobs": seen.top_logprobs[rows],
            }
        else:
            if isinstance(warped, Kept):
                told = _of_few(warped, seen, _row_of(places, rows, len(warped.scores)))
                chosen = warped.of_rows(places).scores_of(tokens[:, None])[:, 0]
            else:
                told = _of_all(warped, seen, _row_of(places, rows, len(warped)))
                chosen = warped[places, tokens]
            values = {name: of_row[places] for name, of_row in told.items()}
            values["warped_logprob"] = chosen - values.pop("log_total")
        self._warped.append(values)

    def end_step(self, seen: Seen) -> None:
        """Record what does not depend on a strategy, of all texts that were observed in this step at once."""
        rows = torch.cat([some for some, _ in self._chosen])
        tokens = torch.cat([some for _, some in self._chosen])
        self._chosen = []
        logprob = seen.log_p[rows, tokens]
        self._raw.append(
            {
                "token_id": tokens,
                "logprob": logprob,
                "rank": _rank(seen, rows, logprob),
                "entropy": seen.entropy[rows],
                "top_ids": seen.top_ids[rows],
                "top_logprobs": seen.top_logprobs[rows],
            }
        )

    def finish(self) -> Recorded:
        """Bring what was recorded to the CPU, once, each text's steps together."""
        texts = np.concatenate(
            [np.asarray(some, dtype=np.int64) for some in self._texts] or [np.zeros(0, int)]
        )
        order = np.argsort(texts, kind="stable")
        arrays = {}
        for kind in (self._raw, self._warped):
            for name in kind[0] if kind else ():
                arrays[name] = torch.cat([values[name] for values in kind]).cpu().numpy()[order]
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
        columns: dict[str, Any] = {
            name: (values[:, :top_k] if values.ndim == 2 else values).copy() for name, values in own.items()
        }
        return Steps(**columns)


def _row_of(places: Tensor, rows: Tensor, count: int) -> Tensor:
    """(count,) the row that is meant at each place."""
    return rows.new_zeros(count).scatter_(0, places, rows)


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


def _of_all(warped: Tensor, seen: Seen, row_of: Tensor) -> dict[str, Tensor]:
    """What is recorded of (M, V) warped logits; `row_of` (M,) are their rows among the raw ones.

    Returns:
        `log_total` (the log of their exponentials' sum), `kept`, `kept_mass` and `warped_entropy`, (M,) each,
        and `top_warped_logprobs`, (M, k).
    """
    log_q = warped.log_softmax(-1)
    kept = _left(warped)
    if warped.device.type == "cpu" and bool((kept == warped.shape[1]).all()):
        mass = torch.ones_like(log_q[:, 0])
    else:
        p = seen.log_p.index_select(0, row_of).exp_()
        mass = p.masked_fill_(warped == _NEG_INF, 0.0).sum(-1).clamp_(max=1.0)
    return {
        "log_total": warped.amax(-1) - log_q.amax(-1),
        "top_warped_logprobs": log_q.gather(1, seen.top_ids[row_of]),
        "kept": kept,
        "kept_mass": mass,
        "warped_entropy": entropy_of(log_q),
    }


def _of_few(kept: Kept, seen: Seen, row_of: Tensor) -> dict[str, Tensor]:
    """The same of the few tokens that a truncation left."""
    log_total = kept.scores.logsumexp(-1)
    log_q = kept.scores - log_total[:, None]
    left = kept.scores > _NEG_INF
    return {
        "log_total": log_total,
        "top_warped_logprobs": kept.scores_of(seen.top_ids[row_of]) - log_total[:, None],
        "kept": left.sum(-1, dtype=torch.int32),
        "kept_mass": seen.log_p[row_of[:, None], kept.tokens].exp_().mul_(left).sum(-1).clamp_(max=1.0),
        "warped_entropy": entropy_of(log_q),
    }


def _left(scores: Tensor) -> Tensor:
    """(R,) int32, how many of (R, V) scores are above -inf; on a CPU the least of a row mostly tells it."""
    if scores.device.type == "cpu" and bool((scores.amin(-1) > _NEG_INF).all()):
        return torch.full((len(scores),), scores.shape[1], dtype=torch.int32)
    return (scores > _NEG_INF).sum(-1, dtype=torch.int32)
