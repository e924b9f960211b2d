"""A strategy's logits processors: transformers' own, each row shown only its own tokens.

Processors built by hand see the left padding of a ragged batch: a repetition penalty punishes the pad
token (which may be the EOS), n-gram bans count it, lengths are off. Here every row's processors see what
they would see if the prompt stood alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import logits_process as stock

# Look at one row of scores only: no history, no length. Rows may share one call.
_MEMORYLESS = (
    stock.TemperatureLogitsWarper,
    stock.TopKLogitsWarper,
    stock.TopPLogitsWarper,
    stock.MinPLogitsWarper,
    stock.TypicalLogitsWarper,
    stock.EpsilonLogitsWarper,
    stock.EtaLogitsWarper,
    stock.TopHLogitsWarper,
    stock.SuppressTokensLogitsProcessor,
    stock.InfNanRemoveLogitsProcessor,
    stock.LogitNormalization,
)


def strategy_config(
    effective: Mapping[str, Any],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    pad_token_id: int,
) -> GenerationConfig:
    """The GenerationConfig of an effective decoding (every field set; `config/effective.py`).

    Args:
        effective: GenerationConfig fields, all explicit.
        max_new_tokens: the budget.
        eos_token_ids: ids that end a sample; none to go on past end-of-text.
        pad_token_id: what stands behind a finished row.
    """
    return GenerationConfig(
        **effective,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(eos_token_ids) or None,
        pad_token_id=pad_token_id,
    )


# A LogitsProcessorList: (input_ids, scores) -> scores. Its own annotations want LongTensor, which nothing is.
ProcessorList = Any


def stock_processors(model: Any, config: GenerationConfig, prompt_tokens: int, device: str) -> ProcessorList:
    """The list that `generate` builds for `config` and a single unpadded prompt of `prompt_tokens`."""
    model._prepare_special_tokens(config, True, device=device)
    return model._get_logits_processor(config, input_ids_seq_length=prompt_tokens, device=device)


class Processors:
    """The processors of one strategy for the rows of a left-padded batch."""

    def __init__(
        self,
        model: Any,
        config: GenerationConfig,
        prompt_tokens: Sequence[int],
        device: str,
    ) -> None:
        """Build for rows whose prompts have `prompt_tokens` tokens each, padding not counted."""
        self._width = max(prompt_tokens)
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(prompt_tokens):
            groups.setdefault(length, []).append(row)
        first = stock_processors(model, config, prompt_tokens[0], device)
        self.neutral = len(first) == 0
        self._groups: list[tuple[Tensor | None, int, ProcessorList]]
        if all(type(processor) in _MEMORYLESS for processor in first) or len(groups) == 1:
            self._groups = [(None, self._width - prompt_tokens[0], first)]
        else:
            self._groups = [
                (
                    torch.tensor(rows, device=device),
                    self._width - length,
                    stock_processors(model, config, length, device),
                )
                for length, rows in groups.items()
            ]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Warp (R, V) scores given the (R, S) left-padded ids so far; `scores` is left as it is."""
        if self.neutral:
            return scores
        warped = scores
        for rows, padding, processors in self._groups:
            if rows is None:
                return processors(input_ids[:, padding:], scores)
            if warped is scores:
                warped = torch.empty_like(scores)
            warped[rows] = processors(input_ids[rows, padding:], scores[rows])
        return warped
