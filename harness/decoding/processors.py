"""A strategy's logits processors: transformers' own, each row without its padding.

In a ragged batch stock processors see the left padding: a repetition penalty punishes the pad token, n-gram
bans count it, lengths are off. Here they see of every row what they would see if it were decoded alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import logits_process as stock

from harness.decoding.truncation import neutral_truncation, truncation_of

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


# Processors that read no token ids, at most how many were generated: rows of any prompts may share one call.
# Kept by hand: a processor that is missing here is still right, only slower.
_READ_SCORES_ONLY = (
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
    FastMinNewTokens,
)

# A LogitsProcessorList: (input_ids, scores) -> scores. Its annotations want LongTensor, which no tensor is.
ProcessorList = Any


def stock_processors(model: Any, config: GenerationConfig, prompt_tokens: int, device: str) -> ProcessorList:
    """Return the list that `generate` builds for `config` and a single unpadded prompt of `prompt_tokens`."""
    model._prepare_special_tokens(config, True, device=device)
    return model._get_logits_processor(config, input_ids_seq_length=prompt_tokens, device=device)


class Processors:
    """The processors of one strategy for the rows of left-padded batches.

    Attributes:
        neutral: there are none.
        truncation: what ends the list, applied by `TruncationBatch`; None where there is none.
    """

    def __init__(self, model: Any, config: GenerationConfig, device: str) -> None:
        """`config` is the strategy's, with every field explicit."""
        self.truncation = truncation_of(vars(config))
        self._model = model
        self._config = config
        if self.truncation is not None:
            self._config = copy(config)
            self._config.update(**neutral_truncation(vars(config)))
        self._device = device
        self._lists: dict[int, list[Any]] = {}
        self._runs = _runs(self._list_for(1))
        self.neutral = self.truncation is None and not self._runs

    @property
    def only_truncates(self) -> bool:
        """Whether nothing comes before the truncation."""
        return self.truncation is not None and not self._runs

    @property
    def reads_scores_only(self) -> bool:
        """Whether neither the tokens so far nor their number matter."""
        return all(
            reads == "scores" and not any(isinstance(p, FastMinNewTokens) for p in self._list_for(1)[run])
            for reads, run in self._runs
        )

    def __call__(self, input_ids: Tensor, scores: Tensor, prompt_tokens: Sequence[int], width: int) -> Tensor:
        """Return (R, V) scores warped by all that comes before `truncation`; `scores` itself is not changed.

        Args:
            input_ids: (R, S) ids so far, prompts padded on the left to `width`.
            scores: (R, V) logits.
            prompt_tokens: tokens of each row's prompt, without padding.
            width: padded length of the prompts.
        """
        for reads, run in self._runs:
            if reads == "scores":
                # As if each prompt were one token long: at most the number of generated tokens is read.
                scores = _apply(self._list_for(1)[run], input_ids[:, width - 1 :], scores)
            elif reads == "token set":
                ids = _without_padding(input_ids, prompt_tokens, width)
                scores = _apply(self._list_for(1)[run], ids, scores)
            else:
                scores = self._by_length(run, input_ids, scores, prompt_tokens, width)
        return scores

    def _by_length(
        self, run: slice, input_ids: Tensor, scores: Tensor, prompt_tokens: Sequence[int], width: int
    ) -> Tensor:
        """Apply processors once for all rows whose prompts have the same length."""
        rows_of: dict[int, list[int]] = {}
        for row, length in enumerate(prompt_tokens):
            rows_of.setdefault(length, []).append(row)
        if len(rows_of) == 1:
            (length,) = rows_of
            return _apply(self._list_for(length)[run], input_ids[:, width - length :], scores)
        warped = torch.empty_like(scores)
        for length, rows in rows_of.items():
            index = torch.tensor(rows, device=scores.device)
            ids = input_ids[index, width - length :]
            warped[index] = _apply(self._list_for(length)[run], ids, scores[index])
        return warped

    def _list_for(self, prompt_tokens: int) -> list[Any]:
        """Return the stock list for prompts of one length, from which minimum lengths are counted."""
        if prompt_tokens not in self._lists:
            found = stock_processors(self._model, self._config, prompt_tokens, self._device)
            slow = stock.MinNewTokensLengthLogitsProcessor
            self._lists[prompt_tokens] = [FastMinNewTokens(p) if type(p) is slow else p for p in found]
        return self._lists[prompt_tokens]


_Reads = Literal["scores", "token set", "sequence"]
"""What a processor reads of a row: no token of it, which tokens occur in it, or all in their order."""


def _runs(processors: Sequence[Any]) -> list[tuple[_Reads, slice]]:
    """Return neighbours in a list that read the same."""
    runs: list[tuple[_Reads, slice]] = []
    for reads, group in groupby(range(len(processors)), key=lambda index: _reads(processors[index])):
        indices = list(group)
        runs.append((reads, slice(indices[0], indices[-1] + 1)))
    return runs


def _reads(processor: Any) -> _Reads:
    if type(processor) in _READ_SCORES_ONLY:
        return "scores"
    if type(processor) is stock.RepetitionPenaltyLogitsProcessor and processor.prompt_ignore_length is None:
        return "token set"
    return "sequence"


def _apply(processors: Sequence[Any], input_ids: Tensor, scores: Tensor) -> Tensor:
    for processor in processors:
        scores = processor(input_ids, scores)
    return scores


def _without_padding(input_ids: Tensor, prompt_tokens: Sequence[int], width: int) -> Tensor:
    """Return (R, S) ids with padding replaced by the row's first token: the same tokens occur as without."""
    starts = torch.tensor([[width - length] for length in prompt_tokens], device=input_ids.device)
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    return torch.where(positions < starts, input_ids.gather(1, starts), input_ids)
