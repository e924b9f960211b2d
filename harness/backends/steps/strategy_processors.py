"""The processors of a strategy on a loaded model."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from harness.backends.steps.generation_config import generation_config
from harness.decoding.processors import Processors
from harness.decoding.strategy import Strategy
from harness.decoding.vocabulary import Vocabulary
from harness.models.load import LoadedModel


def strategy_processors(loaded: LoadedModel, strategy: Strategy) -> Processors:
    """Return fresh processors, which know no text yet."""
    vocabulary = _vocabulary(loaded.tokenizer)
    return Processors(loaded.model, generation_config(strategy), loaded.device, vocabulary)


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Any) -> Vocabulary:
    return Vocabulary(tokenizer)
