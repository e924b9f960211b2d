"""Biases and penalties: what a strategy adds to the logits for what the text already has.

Each is a function of the logits (R, V), which it may write over, and the rows' texts; nothing is kept from
step to step, so rows may move, split and vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.config.effective import NEUTRAL, acts
from harness.decoding.dry import Dry
from harness.decoding.texts import Texts, counts, latest
from harness.decoding.upload import on_device
from harness.decoding.vocabulary import Vocabulary

TextProcessor = Callable[[Texts, Tensor], Tensor]
"""(texts, (R, V) logits, which may be written over) -> (R, V) logits."""

REPLACED = ("sequence_bias", "encoder_repetition_penalty", "repetition_penalty")
"""GenerationConfig's fields that are applied here, not by transformers."""


def text_processors(effective: Mapping[str, Any], vocabulary: Vocabulary | None) -> list[TextProcessor]:
    """Return a strategy's biases and penalties, transformers' in its order and the others after them.

    Args:
        effective: the fields that act.
        vocabulary: the texts of the tokens; only needed for DRY.
    """

    def value(name: str) -> Any:
        return effective.get(name, NEUTRAL[name])

    found: list[TextProcessor] = []
    if acts(effective, "sequence_bias"):
        found.append(_sequence_bias(value("sequence_bias")))
    if acts(effective, "logit_bias"):
        found.append(_logit_bias(value("logit_bias")))
    if acts(effective, "encoder_repetition_penalty"):
        found.append(_of_prompt(value("encoder_repetition_penalty")))
    if acts(effective, "repetition_penalty"):
        found.append(
            _repetition(
                value("repetition_penalty"),
                value("penalty_last_n"),
                value("rep_pen_slope"),
                value("penalty_sustain"),
                value("penalty_decay"),
            )
        )
    if acts(effective, "presence_penalty", "frequency_penalty"):
        found.append(_counted(value("presence_penalty"), value("frequency_penalty"), value("penalty_last_n")))
    if acts(effective, "dry_multiplier"):
        assert vocabulary is not None, "DRY reads the texts of tokens"
        found.append(
            Dry(
                value("dry_multiplier"),
                value("dry_base"),
                value("dry_allowed_length"),
                value("dry_penalty_last_n"),
                vocabulary.containing(tuple(value("dry_sequence_breakers"))),
            )
        )
    return found


def penalised(logits: Tensor, penalty: Tensor | float) -> Tensor:
    """Return logits divided by the penalty above 0 and multiplied by it below (Keskar et al. 2019)."""
    return torch.where(logits < 0, logits * penalty, logits / penalty)


def _repetition(
    penalty: float, last_n: int | None, slope: float, sustain: int | None, decay: int | None
) -> TextProcessor:
    """CTRL's penalty (Keskar et al. 2019, arXiv:1909.05858), once per token in the window.

    `slope`: a token that occurs in the older half only has 1 + (penalty - 1) slope (koboldcpp). `decay`: the
    penalty fades with the distance of the latest occurrence, from `sustain` tokens on (exllamav2).
    """

    def process(texts: Texts, logits: Tensor) -> Tensor:
        vocabulary = logits.shape[1]
        window = texts.last(-1 if last_n is None else last_n)
        if slope == 1.0 and decay is None and last_n != 0:
            ids = torch.where(window, texts.ids, texts.ids[:, -1:])  # the last token is in the window
            return logits.scatter_(1, ids, penalised(logits.gather(1, ids), penalty))
        at = latest(texts.ids, window, vocabulary)
        found = at >= 0
        if decay is not None:
            distance = texts.ids.shape[1] - at  # 1 of the last token
            weight = (1 - (distance - (sustain or 0)) / decay).clamp(0.0, 1.0)
            faded = (1 - weight) * logits + weight * penalised(logits, penalty)
            return torch.where(found, faded, logits)
        size = window.sum(-1, keepdim=True)
        # the i-th of n tokens is in the newer half where 2 i >= n
        index = at - (texts.ids.shape[1] - size)
        older = 1 + (penalty - 1) * slope if penalty > 1 else penalty
        graded = torch.where(2 * index >= size, penalty, older)
        return torch.where(found, penalised(logits, graded), logits)

    return process


def _counted(presence: float, frequency: float, last_n: int | None) -> TextProcessor:
    """Subtract a penalty per token that occurs, and per occurrence, as OpenAI's API documents them.

    Of the output alone, as there and in vLLM; with `last_n` of the last tokens of prompt and output, as in
    llama.cpp.
    """

    def process(texts: Texts, logits: Tensor) -> Tensor:
        window = texts.generated if last_n is None else texts.last(last_n)
        found = counts(texts.ids, window, logits.shape[1]).gather(1, texts.ids)
        changed = logits.gather(1, texts.ids) - frequency * found - presence * (found > 0)
        return logits.scatter_(1, texts.ids, changed)

    return process


def _of_prompt(penalty: float) -> TextProcessor:
    """Reward the tokens of the prompt: their repetition penalty is 1 / penalty, as in transformers."""

    def process(texts: Texts, logits: Tensor) -> Tensor:
        last = texts.ids[:, texts.width - 1 : texts.width]  # of the prompt
        ids = torch.where(texts.prompt, texts.ids, last)
        return logits.scatter_(1, ids, penalised(logits.gather(1, ids), 1 / penalty))

    return process


def _logit_bias(bias: Mapping[int, float]) -> TextProcessor:
    def process(texts: Texts, logits: Tensor) -> Tensor:
        index = on_device(list(bias), logits.device)
        return logits.index_add_(1, index, _row(list(bias.values()), logits).expand(len(logits), -1))

    return process


def _sequence_bias(biases: Sequence[tuple[Sequence[int], float]]) -> TextProcessor:
    """Add to the last token of a sequence where the tokens before it end the text."""

    def process(texts: Texts, logits: Tensor) -> Tensor:
        added = torch.zeros_like(logits)
        for (*start, last), bias in biases:
            if len(start) > texts.ids.shape[1]:
                continue
            ends = texts.ids[:, texts.ids.shape[1] - len(start) :]
            fits = (ends == on_device(start, ends.device)).all(-1)
            if start:
                fits = fits & texts.present[:, texts.ids.shape[1] - len(start)]
            added[:, last] += bias * fits
        return logits + added

    return process


def _row(values: Sequence[float], like: Tensor) -> Tensor:
    return on_device([list(values)], like.device, dtype=like.dtype)
