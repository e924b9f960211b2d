"""The records that flow from the engine to the store: frozen, plain Python and NumPy, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

FinishReason = Literal["eos", "stop_string", "length", "time"]


@dataclass(frozen=True)
class Steps:
    """What was seen at each generated token of one sample; T steps, k recorded alternatives.

    All probabilities are natural logarithms (nats). The raw distribution is softmax of the model's
    logits; the warped one is what was really drawn from (DESIGN: raw, warped). Values that the warped
    distribution gives no mass are -inf.

    Attributes:
        token_id: (T,) int64, the chosen tokens.
        logprob, warped_logprob: (T,) float32, of the chosen token.
        rank: (T,) int32, 1 + how many tokens are strictly likelier in the raw distribution.
        entropy, warped_entropy: (T,) float32, nats.
        kept: (T,) int32, how many tokens truncation left.
        kept_mass: (T,) float32, the raw probability of those.
        top_ids: (T, k) int64, the k likeliest tokens of the raw distribution, likeliest first.
        top_logprobs, top_warped_logprobs: (T, k) float32.
    """

    token_id: np.ndarray
    logprob: np.ndarray
    warped_logprob: np.ndarray
    rank: np.ndarray
    entropy: np.ndarray
    warped_entropy: np.ndarray
    kept: np.ndarray
    kept_mass: np.ndarray
    top_ids: np.ndarray
    top_logprobs: np.ndarray
    top_warped_logprobs: np.ndarray

    def __len__(self) -> int:
        return len(self.token_id)


@dataclass(frozen=True)
class Times:
    """When a sample came to be; seconds since the epoch. Texts that are decoded together share their steps.

    Attributes:
        started: its batch's prefill began.
        first_token: the first token was there (of beams: the first step was done).
        ended: its last token was chosen (of beams: the search was over).
        batch: texts that were decoded together.
    """

    started: float
    first_token: float
    ended: float
    batch: int


@dataclass(frozen=True)
class Sample:
    """One generated text: a point, a prompt, a sample index.

    Attributes:
        prompt_id: the prompt's id within its set.
        sample: index among the samples of this prompt, from 0.
        token_ids: generated ids, the EOS that ended it included, nothing after it.
        finish_reason: what ended it.
        seed: the seed its luck was made from.
        steps: one entry a generated token.
        sequence_score: transformers' length-penalised beam score; None without beams.
        times: when it came to be; None where that was not noted.
    """

    prompt_id: str
    sample: int
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    seed: int
    steps: Steps
    sequence_score: float | None = None
    times: Times | None = None


@dataclass(frozen=True)
class PromptScores:
    """How likely the prompt's own tokens were: (P,) arrays; position 0 has no context and is NaN, rank 0."""

    prompt_id: str
    token_id: np.ndarray
    logprob: np.ndarray
    rank: np.ndarray
    entropy: np.ndarray


@dataclass(frozen=True)
class Repetition:
    """One timed repetition of one batch; milliseconds.

    Attributes:
        prompt_id: the prompt, or the batch's prompts joined by a comma.
        repeat: index of the repetition, from 0.
        batch_size: prompts decoded together.
        ttft_ms: from text in to first token out; None for beams, which stream nothing.
        decode_ms: from first token out to the last (the whole run for beams).
        output_tokens: tokens made per prompt.
        itl_ms: time between consecutive tokens, output_tokens - 1 of them; empty for beams.
    """

    prompt_id: str
    repeat: int
    batch_size: int
    ttft_ms: float | None
    decode_ms: float
    output_tokens: int
    itl_ms: tuple[float, ...]
