"""Teacher-forced rescoring: the distributions along a text that is already there.

Serves beams, whose rows come and go while they are searched, and the prompt's own tokens. The text is
fed in slices with the cache kept, so logits are never held for more than a slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.backends.hf.forward import forward
from harness.backends.hf.generation_config import generation_config
from harness.backends.hf.recorder import Recorder
from harness.decoding.processors import stock_processors
from harness.decoding.strategy import Strategy
from harness.store.records import PromptScores, Steps

if TYPE_CHECKING:
    from harness.models.load import LoadedModel

_SLICE = 32


def logits_along(loaded: LoadedModel, ids: Sequence[int], first: int) -> Iterator[tuple[int, Tensor]]:
    """The logits that predict `ids[first:]`, a slice at a time.

    Yields:
        (start, logits): `logits[i]` (float32, (V,)) predicts `ids[start + i]`.
    """
    cache = None
    # Logits at position p predict token p + 1, and nothing before `first - 1` is wanted.
    edges = sorted({0, *range(first - 1, len(ids) - 1, _SLICE), len(ids) - 1})
    for start, end in pairwise(edges):
        part = torch.tensor([list(ids[start:end])], device=loaded.device)
        mask = torch.ones((1, end), dtype=torch.long, device=loaded.device)
        wanted = start >= first - 1
        less = {} if wanted else {"logits_to_keep": 1}
        logits, cache = forward(loaded.model, part, mask, cache, **less)
        if wanted:
            yield start + 1, logits[0]


@torch.inference_mode()
def rescore(
    loaded: LoadedModel, strategy: Strategy, prompt_ids: Sequence[int], generated: Sequence[int]
) -> tuple[Steps, float]:
    """What `Recorder` would have seen along `generated`, for a strategy that searched with beams.

    The warped distribution of beams is log_softmax, then the processors, renormalised.

    Returns:
        The steps, and the sequence's score as beam search ranks it: the sum of what the processors left
        of each chosen token's log-probability (not renormalised), over length ** length_penalty.
    """
    ids = [*prompt_ids, *generated]
    total = 0.0
    recorder = Recorder(strategy.top_k)
    processors = stock_processors(loaded.model, generation_config(strategy), len(prompt_ids), loaded.device)
    for start, logits in logits_along(loaded, ids, len(prompt_ids)):
        # A slice's positions are rows to the recorder, which reads rows independently.
        seen, rows, tokens = recorder.begin_step(logits), *_rows_and_tokens(loaded, ids, start, len(logits))
        scores = seen.log_p
        if len(processors):
            parts = [
                processors(torch.tensor([ids[: start + row]], device=loaded.device), scores[row : row + 1])
                for row in range(len(logits))
            ]
            scores = torch.cat(parts)
        recorder.observe([0] * len(rows), seen, rows, tokens, scores if len(processors) else None, rows)
        recorder.end_step(seen)
        total += float(scores[rows, tokens].sum())
    score = total / len(generated) ** strategy.effective["length_penalty"]
    return recorder.finish().steps(0, len(generated), strategy.top_k), score


@torch.inference_mode()
def score_prompt(loaded: LoadedModel, prompt_id: str, ids: Sequence[int]) -> PromptScores:
    """How likely each of the prompt's own tokens was, given those before it."""
    recorder = Recorder(0)
    for start, logits in logits_along(loaded, ids, 1):
        rows, tokens = _rows_and_tokens(loaded, ids, start, len(logits))
        seen = recorder.begin_step(logits)
        recorder.observe([0] * len(rows), seen, rows, tokens)
        recorder.end_step(seen)
    steps = recorder.finish().steps(0, len(ids) - 1, 0) if len(ids) > 1 else None
    return PromptScores(
        prompt_id=prompt_id,
        token_id=np.asarray(ids, dtype=np.int64),
        logprob=_behind_nothing(None if steps is None else steps.logprob, np.nan, np.float32),
        rank=_behind_nothing(None if steps is None else steps.rank, 0, np.int32),
        entropy=_behind_nothing(None if steps is None else steps.entropy, np.nan, np.float32),
    )


def _rows_and_tokens(
    loaded: LoadedModel, ids: Sequence[int], start: int, count: int
) -> tuple[Tensor, Tensor]:
    """Indices of a slice's rows, and the tokens that really came there."""
    tokens = torch.tensor(list(ids[start : start + count]), device=loaded.device)
    return torch.arange(count, device=loaded.device), tokens


def _behind_nothing(values: np.ndarray | None, first: float, dtype: type) -> np.ndarray:
    """`values` behind an entry for the first token, which has no context."""
    head: np.ndarray = np.array([first], dtype=dtype)
    return head if values is None else np.concatenate([head, values.astype(dtype)])
