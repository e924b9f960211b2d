"""A strategy's logits processors: transformers' own, each row shown only its own tokens.

Processors built by hand see the left padding of a ragged batch: a repetition penalty punishes the pad
token (which may be the EOS), n-gram bans count it, lengths are off. Here every row's processors see what
they would see if the prompt stood alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import logits_process as stock

from harness.decoding.truncation import cuts_of

_NEG_INF = float("-inf")


class QuickMinNewTokens:
    """No end-of-text before `min_new_tokens`: the stock processor finds its ids in the vocabulary anew at
    every step, and copies the scores when there is nothing left to do."""

    def __init__(self, processor: stock.MinNewTokensLengthLogitsProcessor) -> None:
        self._stock = processor
        self._ids: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask (R, V) scores; `scores` itself once there are enough tokens."""
        if input_ids.shape[1] - self._stock.prompt_length_to_skip >= self._stock.min_new_tokens:
            return scores
        if self._ids is None:
            ids = self._stock.eos_token_id
            self._ids = ids[ids < scores.shape[1]].to(scores.device)
        return scores.index_fill(1, self._ids, _NEG_INF)


def _quick(processor: Any) -> Any:
    if type(processor) is stock.MinNewTokensLengthLogitsProcessor:
        return QuickMinNewTokens(processor)
    return processor


# Look at one row of scores only, and perhaps at how many tokens were made: rows may share one call.
_BLIND = (
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
    QuickMinNewTokens,
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
    """The processors of one strategy for the rows of left-padded batches.

    Attributes:
        neutral: there are none.
        cuts: the truncations that end the list; None where there are none, or not of a kind that is known.
    """

    def __init__(self, model: Any, config: GenerationConfig, device: str) -> None:
        self._model = model
        self._config = config
        self._device = device
        self._lists: dict[int, list[Any]] = {}
        first = self._list_for(1)
        self.neutral = not first
        self.cuts, count = cuts_of(first)
        self._parts = _parts(first[: len(first) - count])

    @property
    def only_cuts(self) -> bool:
        """Whether nothing comes before the truncations."""
        return self.cuts is not None and not self._parts

    def __call__(self, input_ids: Tensor, scores: Tensor, prompt_tokens: Sequence[int], width: int) -> Tensor:
        """Warp a step's scores by all that comes before `cuts`; they are left as they are.

        Args:
            input_ids: (R, S) ids so far, prompts padded on the left to `width`.
            scores: (R, V) logits.
            prompt_tokens: tokens of each row's prompt, padding not counted.
            width: padded length of the prompts.

        Returns:
            (R, V) warped logits; `scores` itself where nothing changes them.
        """
        for sight, part in self._parts:
            if sight == "blind":
                # As if each prompt were one token long: the number of tokens made is what they may look at.
                scores = _through(self._list_for(1)[part], input_ids[:, width - 1 :], scores)
            elif sight == "set":
                seen = _without_padding(input_ids, prompt_tokens, width)
                scores = _through(self._list_for(1)[part], seen, scores)
            else:
                scores = self._by_length(part, input_ids, scores, prompt_tokens, width)
        return scores

    def _by_length(
        self, part: slice, input_ids: Tensor, scores: Tensor, prompt_tokens: Sequence[int], width: int
    ) -> Tensor:
        """Rows whose prompts have one length share a call."""
        rows_of: dict[int, list[int]] = {}
        for row, length in enumerate(prompt_tokens):
            rows_of.setdefault(length, []).append(row)
        if len(rows_of) == 1:
            (length,) = rows_of
            return _through(self._list_for(length)[part], input_ids[:, width - length :], scores)
        warped = torch.empty_like(scores)
        for length, rows in rows_of.items():
            index = torch.tensor(rows, device=scores.device)
            seen = input_ids[index, width - length :]
            warped[index] = _through(self._list_for(length)[part], seen, scores[index])
        return warped

    def _list_for(self, prompt_tokens: int) -> list[Any]:
        """The stock list for prompts of one length: minimum lengths and the like are counted from it."""
        if prompt_tokens not in self._lists:
            found = stock_processors(self._model, self._config, prompt_tokens, self._device)
            self._lists[prompt_tokens] = [_quick(processor) for processor in found]
        return self._lists[prompt_tokens]


_Sight = Literal["blind", "set", "text"]
"""What a processor sees of a text: no token of it, which tokens occur in it, or all in their order."""


def _parts(processors: Sequence[Any]) -> list[tuple[_Sight, slice]]:
    """Neighbours in a list that see the same."""
    parts: list[tuple[_Sight, slice]] = []
    for sight, some in groupby(range(len(processors)), key=lambda place: _sight(processors[place])):
        places = list(some)
        parts.append((sight, slice(places[0], places[-1] + 1)))
    return parts


def _sight(processor: Any) -> _Sight:
    if type(processor) in _BLIND:
        return "blind"
    if type(processor) is stock.RepetitionPenaltyLogitsProcessor and processor.prompt_ignore_length is None:
        return "set"
    return "text"


def _through(processors: Sequence[Any], input_ids: Tensor, scores: Tensor) -> Tensor:
    for processor in processors:
        scores = processor(input_ids, scores)
    return scores


def _without_padding(input_ids: Tensor, prompt_tokens: Sequence[int], width: int) -> Tensor:
    """(R, S) ids with a row's first token in the place of its padding: the same tokens occur as without."""
    starts = torch.tensor([[width - length] for length in prompt_tokens], device=input_ids.device)
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    return torch.where(places < starts, input_ids.gather(1, starts), input_ids)
