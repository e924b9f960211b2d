"""Stock processors that stand in most sweeps, for many rows at once, without copies that nothing needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.generation import logits_process as stock

_NEG_INF = float("-inf")


class FastMinNewTokens:
    """No end-of-text before `min_new_tokens`: the stock processor looks its ids up in the vocabulary at every
    step, and copies the scores even when enough tokens were generated."""

    def __init__(self, processor: stock.MinNewTokensLengthLogitsProcessor) -> None:
        self._stock = processor
        self._ids: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return masked (R, V) scores; `scores` itself once there are enough tokens."""
        if input_ids.shape[1] - self._stock.prompt_length_to_skip >= self._stock.min_new_tokens:
            return scores
        if self._ids is None:
            ids = self._stock.eos_token_id
            self._ids = ids[(ids >= 0) & (ids < scores.shape[1])].to(scores.device)
        return scores.index_fill(1, self._ids, _NEG_INF)


class FastRepetitionPenalty:
    """Penalizes what a row has of each token: which tokens it has matters, not where they are.

    So rows of any lengths share one call, while the stock processor takes one a length; it also copies the
    scores to have a place for ids that the head lacks.
    """

    def __init__(self, processor: stock.RepetitionPenaltyLogitsProcessor, token_ids: int) -> None:
        """Take the stock processor; the model reads so many ids."""
        self._stock, self._token_ids = processor, token_ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return penalized (R, V) scores; an id of (R, n) may be repeated."""
        if self._token_ids > scores.shape[1]:
            return self._stock(input_ids, scores)  # type: ignore[arg-type]
        some, penalty = scores.gather(1, input_ids), self._stock.penalty
        return scores.scatter(1, input_ids, torch.where(some < 0, some * penalty, some / penalty))


def fast_processor(processor: Any, model: Any) -> Any:
    """Return a processor that does the same as a stock one in less time; itself where there is none."""
    if type(processor) is stock.MinNewTokensLengthLogitsProcessor:
        return FastMinNewTokens(processor)
    if type(processor) is stock.RepetitionPenaltyLogitsProcessor and processor.prompt_ignore_length is None:
        return FastRepetitionPenalty(processor, _token_ids(model))
    return processor


def _token_ids(model: Any) -> int:
    """Return how many token ids a model reads; some read more than their head knows, as for images."""
    known = int(model.config.get_text_config().vocab_size)
    try:
        return max(known, len(model.get_input_embeddings().weight))
    except (AttributeError, NotImplementedError):  # a model that is not of torch
        return known
