"""What a strategy makes of the logits before it samples: penalties, transformers' own processors, a grammar.

In a ragged batch stock processors see the left padding: n-gram bans count it, lengths are off. Here they see
of every row what they would see if it were decoded alone.
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

from harness.config.effective import NEUTRAL
from harness.decoding.after_samplers import AfterSamplers, keyed_noise
from harness.decoding.fast_processors import FastMinNewTokens, FastRepetitionPenalty, fast_processor
from harness.decoding.grammar_mask import grammar_mask
from harness.decoding.guidance import guidance_of
from harness.decoding.own_processors import own_processors
from harness.decoding.penalties import REPLACED, text_processors
from harness.decoding.sampler_settings import neutral_samplers, sampler_settings
from harness.decoding.sampler_state import SamplerState
from harness.decoding.texts import Texts
from harness.decoding.upload import on_device
from harness.decoding.vocabulary import Vocabulary

# Processors that read no token ids, at most how many were generated: rows of any prompts may share one call.
# Kept by hand: a processor that is missing here is still right, only slower.
_READ_SCORES_ONLY = (
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
    """What one strategy makes of the logits of left-padded batches, before its samplers.

    Attributes:
        config: the strategy's, with every field that acts.
        guidance: what comes before it: the scores it gets are made of two distributions; None for none.
        samplers: what comes after it, applied by `SamplerChain`; None where there is nothing.
        state: what the samplers remember of each text.
        neutral: nothing is changed, and nothing comes before or after it.
        after: what sees what the samplers leave: the user's own processors, and a watermark.
        noise: of a watermark, in place of the samples' own; None without one.
    """

    def __init__(
        self, model: Any, config: GenerationConfig, device: str, vocabulary: Vocabulary | None = None
    ) -> None:
        """`config` is the strategy's, with every field that acts."""
        effective = vars(config)
        self.guidance = guidance_of(effective)
        self.samplers = sampler_settings(effective)
        self.state = SamplerState(effective)
        self._model = model
        self.config = config
        self._config = copy(config)
        replaced = {name: NEUTRAL[name] for name in (*REPLACED, "guidance_scale", "dola_layers")}
        if effective["num_beams"] > 1:
            replaced = {}  # beams have all of transformers' own
        elif self.samplers is not None:
            replaced |= neutral_samplers(effective)
        self._device = device
        tokenizer = vocabulary.tokenizer if vocabulary is not None else None
        loaded = {"model": model, "tokenizer": tokenizer, "device": device}
        self._own = own_processors(effective, "before", **loaded)
        self.after = AfterSamplers(own_processors(effective, "after", **loaded), effective)
        self.noise = keyed_noise(effective)
        if self._own or self.after:
            replaced["renormalize_logits"] = False  # it comes after them, and is a constant
        self._config.update(**replaced)
        self._first = text_processors(effective, vocabulary) if replaced else []
        self._mask = grammar_mask(effective, vocabulary, _ids(config.eos_token_id))
        self._lists: dict[int, list[Any]] = {}
        self._runs = _runs(self._list_for(1))
        self._none = not (self._runs or self._first or self._own or self.after) and self._mask is None
        self.neutral = self.guidance is None and self.samplers is None and self._none

    @property
    def structured(self) -> bool:
        """Whether a grammar says what the texts may be."""
        return self._mask is not None

    @property
    def only_samples(self) -> bool:
        """Whether nothing comes before or after the samplers."""
        return self.samplers is not None and self._none

    @property
    def has_objects(self) -> bool:
        """Whether a processor of the user's own keeps an object for each text, from step to step."""
        return self._own.remember or self.after.remember

    @property
    def remembers(self) -> bool:
        """Whether anything depends on the earlier steps of a text, beside its tokens."""
        return self.state.updates or self.has_objects

    def forget(self) -> None:
        """Begin all texts anew."""
        self.state.forget()
        self._own.forget()
        self.after.forget()

    @property
    def reads_scores_only(self) -> bool:
        """Whether the model's own logits are enough: neither the tokens so far nor their number matter."""
        return (
            not (self._first or self._own or self.after)
            and self.guidance is None
            and self._mask is None
            and not self.state.needed
            and self.noise is None
            and all(
                reads == "scores" and not any(isinstance(p, FastMinNewTokens) for p in self._list_for(1)[run])
                for reads, run in self._runs
            )
        )

    def __call__(
        self, texts: Texts, scores: Tensor, own: Tensor | None = None, *, overwrite: bool = False
    ) -> Tensor:
        """Return (R, V) scores; `scores` itself is only changed where `overwrite` allows it.

        All is applied but the samplers, where there are any, and what comes after them. `own` are the model's
        own logits, if guidance made the scores: what is left where guidance leaves nothing of a grammar.
        """
        raw = scores if own is None else own
        if self._first and not (overwrite and self._mask is None):
            scores = scores.clone()
        for process in self._first:
            scores = process(texts, scores)
        for reads, run in self._runs:
            if reads == "tokens":
                scores = _apply(self._list_for(1)[run], texts.ids_without_padding, scores)
            elif reads == "scores":
                # As if each prompt were one token long: at most the number of generated tokens is read.
                scores = _apply(self._list_for(1)[run], texts.ids[:, texts.width - 1 :], scores)
            else:
                scores = self._by_length(run, texts.ids, scores, texts.prompt_tokens, texts.width)
        scores = self._own(texts, scores)
        if self._mask is not None:
            scores = self._mask(texts, scores, raw)
        return self.after(texts, scores) if self.samplers is None else scores

    def allowed(self, texts: Texts, vocabulary: int) -> Tensor | None:
        """Return (R, V) bool on the CPU, what a grammar allows to follow each text; None without one."""
        return None if self._mask is None else self._mask.allowed(texts, vocabulary)

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
            index = on_device(rows, scores.device)
            ids = input_ids[index, width - length :]
            warped[index] = _apply(self._list_for(length)[run], ids, scores[index])
        return warped

    def _list_for(self, prompt_tokens: int) -> list[Any]:
        """Return the stock list for prompts of one length, from which minimum lengths are counted."""
        if prompt_tokens not in self._lists:
            found = stock_processors(self._model, self._config, prompt_tokens, self._device)
            self._lists[prompt_tokens] = [fast_processor(one, self._model) for one in found]
        return self._lists[prompt_tokens]


_Reads = Literal["scores", "tokens", "sequence"]
"""What a processor reads of a row: no token of it, which tokens it has, or all in their order."""


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
    return "tokens" if type(processor) is FastRepetitionPenalty else "sequence"


def _ids(value: int | Sequence[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def _apply(processors: Sequence[Any], input_ids: Tensor, scores: Tensor) -> Tensor:
    for processor in processors:
        scores = processor(input_ids, scores)
    return scores
