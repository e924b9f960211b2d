"""A strategy as a logits processor of stock `generate`: what a loop of one's own would run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from harness.backends.hf.guided_texts import GuidedTexts
from harness.config.decoding import Decoding
from harness.config.effective import NEUTRAL, decoding_fields, effective_decoding
from harness.config.guided_fields import is_guided
from harness.decoding.gumbel import draw
from harness.decoding.processors import Processors
from harness.decoding.strategy import Strategy
from harness.decoding.texts import Texts
from harness.decoding.warping import note_chosen, warp, whole


def has_own_fields(strategy: Strategy) -> bool:
    """Return whether `generate` does not apply a strategy as it is recorded.

    It lacks some fields; guidance it reads one text at a time, or not at all.
    """
    own = (name for name, field in decoding_fields().items() if not field.stock)
    return is_guided(strategy.effective) or any(name in strategy.effective for name in own)


def without_processors(strategy: Strategy) -> dict[str, Any]:
    """Return the effective decoding with which `generate` draws or takes the best of what it is given."""
    plain = effective_decoding(Decoding(name="plain"))
    # The noise of a watermark is in the scores: what is drawn is the largest.
    draws = strategy.effective["do_sample"] and "gumbel_key" not in strategy.effective
    return {**plain, "do_sample": draws, "temperature": NEUTRAL["temperature"]}


class TimedProcessor(LogitsProcessor):
    """All that a strategy makes of the logits, for a left-padded batch of texts that stay in their rows."""

    def __init__(
        self, processors: Processors, prompt_tokens: Sequence[int], guided: GuidedTexts | None = None
    ) -> None:
        """`prompt_tokens` are those of each text, without padding."""
        self._processors, self._prompt_tokens, self._guided = processors, prompt_tokens, guided
        self._width = max(prompt_tokens)
        self._numbers = range(len(prompt_tokens))
        self._last: Any = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return (R, V) scores that `generate` draws from; the last ids are what it drew before."""
        if self._last is not None:
            note_chosen(self._processors, self._last, self._numbers, input_ids[:, -1])
        own = scores
        if self._guided is not None:
            chosen = input_ids[:, -1] if input_ids.shape[1] > self._width else None
            scores = self._guided.scores(scores, chosen)
        texts = Texts(input_ids, self._prompt_tokens, self._width)
        self._last = warp(self._processors, texts, scores, self._numbers, own)
        drawn = whole(self._last, scores)
        if (noise := self._processors.noise) is None:
            return drawn
        step = input_ids.shape[1] - self._width
        keys = noise.keys(texts, self._numbers)
        tokens = draw(drawn, torch.tensor(keys, device=drawn.device), step)
        return torch.full_like(drawn, float("-inf")).scatter_(1, tokens[:, None], 0.0)
