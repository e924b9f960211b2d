"""Teacher-forced scoring: the recorded distributions along a text that exists already.

Used for searches, whose rows come and go, and for the prompt's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.backends.hf.teacher_forcing import logits_along
from harness.backends.steps.generation_config import generation_config
from harness.backends.steps.recorder import RawStep, Recorder
from harness.backends.steps.strategy_processors import strategy_processors
from harness.decoding.processors import stock_processors
from harness.decoding.strategy import Strategy
from harness.decoding.texts import Texts
from harness.decoding.warping import warp, whole
from harness.models.load import LoadedModel
from harness.store.records import PromptScores, Steps

Process = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""What a strategy makes of the (1, V) logits after (1, S) ids: scores, and which a grammar allowed."""


def of_beams(loaded: LoadedModel, strategy: Strategy, prompt_tokens: int) -> Process | None:
    """Return beam search's: log-probabilities after transformers' processors; None where there are none."""
    found = stock_processors(loaded.model, generation_config(strategy), prompt_tokens, loaded.device)
    if not len(found):
        return None
    return lambda ids, logits: (found(ids, logits.log_softmax(-1)), None)


def of_draws(loaded: LoadedModel, strategy: Strategy, prompt_tokens: int) -> Process:
    """Return those of a strategy that draws its tokens: the log-probabilities that it draws from."""
    processors = strategy_processors(loaded, strategy)

    def process(ids: Tensor, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        texts = Texts(ids, [prompt_tokens], prompt_tokens)
        warped = whole(warp(processors, texts, logits, [0]), logits)
        return warped.log_softmax(-1), processors.allowed(texts, logits.shape[1])

    return process


@torch.inference_mode()
def rescore(
    loaded: LoadedModel,
    strategy: Strategy,
    prompt_ids: Sequence[int],
    generated: Sequence[int],
    process: Process | None,
) -> tuple[Steps, float]:
    """Return the steps of `generated` as `Recorder` records them, for a strategy with a loop of its own.

    The warped distribution is what `process` makes of the logits, renormalised; None: the model's own.

    Returns:
        The steps, and the sum of the chosen tokens' scores: log-probabilities where nothing is processed.
    """
    ids = [*prompt_ids, *generated]
    total = 0.0
    recorder = Recorder(strategy.top_k)
    for start, logits in logits_along(loaded, ids, len(prompt_ids)):
        # The recorder treats rows independently, so the positions of a slice can be its rows.
        seen, rows, tokens = _begin_slice(recorder, ids, start, logits)
        scores, allowed = seen.logits.log_p(), None
        if process is not None:
            processed = [
                process(torch.tensor([ids[: start + row]], device=loaded.device), logits[row : row + 1])
                for row in range(len(logits))
            ]
            scores = torch.cat([one for one, _ in processed])
            if masks := [mask for _, mask in processed if mask is not None]:
                allowed = seen.logprob_of(rows, torch.cat(masks).to(rows.device))
        warped = None if process is None else scores
        recorder.observe([0] * len(rows), seen, rows, tokens, warped, rows, allowed)
        recorder.end_step(seen)
        total += float(scores[rows, tokens].sum())
    return recorder.finish().steps(0, len(generated), strategy.top_k), total


def beam_score(strategy: Strategy, generated: Sequence[int], total: float) -> float:
    """Return a sequence's score as beam search ranks it, from the sum of its tokens' scores."""
    return float(total / len(generated) ** strategy.effective["length_penalty"])


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
