"""Teacher-forced scoring: the recorded distributions along a text that exists already.

Used for beams, whose rows come and go during the search, and for the prompt's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.backends.hf.teacher_forcing import logits_along
from harness.backends.steps.generation_config import generation_config
from harness.backends.steps.recorder import RawStep, Recorder
from harness.decoding.processors import stock_processors
from harness.decoding.strategy import Strategy
from harness.models.load import LoadedModel
from harness.store.records import PromptScores, Steps


@torch.inference_mode()
def rescore(
    loaded: LoadedModel, strategy: Strategy, prompt_ids: Sequence[int], generated: Sequence[int]
) -> tuple[Steps, float]:
    """Return the steps of `generated` as `Recorder` records them, for a strategy that searched with beams.

    The warped distribution of beams is log_softmax, then the processors, renormalised.

    Returns:
        The steps, and the sequence's score as beam search ranks it: the sum of each chosen token's
        log-probability after the processors (not renormalised), over length ** length_penalty.
    """
    ids = [*prompt_ids, *generated]
    total = 0.0
    recorder = Recorder(strategy.top_k)
    processors = stock_processors(loaded.model, generation_config(strategy), len(prompt_ids), loaded.device)
    for start, logits in logits_along(loaded, ids, len(prompt_ids)):
        # The recorder treats rows independently, so the positions of a slice can be its rows.
        seen, rows, tokens = _begin_slice(recorder, ids, start, logits)
        scores = seen.log_p
        if len(processors):
            processed = [
                processors(torch.tensor([ids[: start + row]], device=loaded.device), scores[row : row + 1])
                for row in range(len(logits))
            ]
            scores = torch.cat(processed)
        recorder.observe([0] * len(rows), seen, rows, tokens, scores if len(processors) else None, rows)
        recorder.end_step(seen)
        total += float(scores[rows, tokens].sum())
    score = total / len(generated) ** strategy.effective["length_penalty"]
    return recorder.finish().steps(0, len(generated), strategy.top_k), score


@torch.inference_mode()
def score_prompt(loaded: LoadedModel, prompt_id: str, ids: Sequence[int]) -> PromptScores:
    """Return how likely each token of a prompt is, given the tokens before it."""
    recorder = Recorder(0)
    for start, logits in logits_along(loaded, ids, 1):
        seen, rows, tokens = _begin_slice(recorder, ids, start, logits)
        recorder.observe([0] * len(rows), seen, rows, tokens)
        recorder.end_step(seen)
    steps = recorder.finish().steps(0, len(ids) - 1, 0) if len(ids) > 1 else Steps()
    return PromptScores(
        prompt_id=prompt_id,
        token_id=np.asarray(ids, dtype=np.int64),
        logprob=_after_first(np.nan, steps.logprob, np.float32),
        rank=_after_first(0, steps.rank, np.int32),
        entropy=_after_first(np.nan, steps.entropy, np.float32),
    )


def _begin_slice(
    recorder: Recorder, ids: Sequence[int], start: int, logits: Tensor
) -> tuple[RawStep, Tensor, Tensor]:
    """Return a slice's distributions, its row indices, and the tokens that follow each row in the text."""
    tokens = torch.tensor(list(ids[start : start + len(logits)]), device=logits.device)
    return recorder.begin_step(logits), torch.arange(len(logits), device=logits.device), tokens


def _after_first(first: float, values: np.ndarray | None, dtype: type) -> np.ndarray:
    """Return `values` after an entry for the first token, which has no context."""
    head: np.ndarray = np.array([first], dtype=dtype)
    return head if values is None else np.concatenate([head, values.astype(dtype)])
