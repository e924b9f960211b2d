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

from harness.decoding.warpers import QuickTopP, QuickTypical, quick

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
    QuickTopP,
    QuickTypical,
)


def strategy_config(
    effective: Mapping[str, Any],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    pad_token_id: int,
    cache: Mapping[str, Any] | None = None,
) -> GenerationConfig:
    """The GenerationConfig of an effective decoding (every field set; `config/effective.py`).

    Args:
        effective: GenerationConfig fields, all explicit.
        max_new_tokens: the budget.
        eos_token_ids: ids that end a sample; none to go on past end-of-text.
        pad_token_id: what stands behind a finished row.
        cache: `cache_config` of a quantized cache; None for the model's own.
    """
    other = {} if cache is None else {"cache_implementation": "quantized", "cache_config": dict(cache)}
    return GenerationConfig(
        **effective,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(eos_token_ids) or None,
        pad_token_id=pad_token_id,
        **other,
    )


# A LogitsProcessorList: (input_ids, scores) -> scores. Its own annotations want LongTensor, which nothing is.
ProcessorList = Any


def stock_processors(model: Any, config: GenerationConfig, prompt_tokens: int, device: str) -> ProcessorList:
    """The list that `generate` builds for `config` and a single unpadded prompt of `prompt_tokens`."""
    model._prepare_special_tokens(config, True, device=device)
    return model._get_logits_processor(config, input_ids_seq_length=prompt_tokens, device=device)


class Processors:
    """The processors of one strategy for the rows of left-padded batches."""

    def __init__(self, model: Any, config: GenerationConfig, device: str) -> None:
        self._model = model
        self._config = config
        self._device = device
        self._lists: dict[int, ProcessorList] = {}
        first = self._list_for(1)
        self.neutral = len(first) == 0
        self._memoryless = all(type(processor) in _MEMORYLESS for processor in first)

    def __call__(self, input_ids: Tensor, scores: Tensor, prompt_tokens: Sequence[int], width: int) -> Tensor:
        """Warp a step's scores; they are left as they are.

        Args:
            input_ids: (R, S) ids so far, prompts padded on the left to `width`.
            scores: (R, V) logits.
            prompt_tokens: tokens of each row's prompt, padding not counted.
            width: padded length of the prompts.

        Returns:
            (R, V) warped logits; `scores` itself where the strategy changes nothing.
        """
        if self.neutral:
            return scores
        if self._memoryless:
            return self._list_for(1)(input_ids, scores)
        rows_of: dict[int, list[int]] = {}
        for row, length in enumerate(prompt_tokens):
            rows_of.setdefault(length, []).append(row)
        if len(rows_of) == 1:
            (length,) = rows_of
            return self._list_for(length)(input_ids[:, width - length :], scores)
        warped = torch.empty_like(scores)
        for length, rows in rows_of.items():
            index = torch.tensor(rows, device=scores.device)
            seen = input_ids[index, width - length :]
            warped[index] = self._list_for(length)(seen, scores[index])
        return warped

    def _list_for(self, prompt_tokens: int) -> ProcessorList:
        """The stock list for prompts of one length: minimum lengths and the like are counted from it."""
        if prompt_tokens not in self._lists:
            found = stock_processors(self._model, self._config, prompt_tokens, self._device)
            self._lists[prompt_tokens] = type(found)(map(quick, found))
        return self._lists[prompt_tokens]
