"""The records that flow from a backend to the store: frozen, plain Python and NumPy, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

FinishReason = Literal["eos", "stop_string", "length"]
"""What ended a text."""
ServedReason = Literal["stop", "error"]
"""What else ends a text of a server. stop: EOS or a stop string, it does not tell which; error: a fault."""


@dataclass(frozen=True)
class Steps:
    """What is known of each generated token of one sample; T steps, k recorded alternatives.

    All probabilities are natural logarithms (nats). The raw distribution is softmax of the model's logits;
    the warped one is what is left after penalties, temperature and truncation, the one drawn from. Values
    that the warped distribution gives no mass are -inf. A column that the backend cannot tell is None.

    Attributes:
        token_id: (T,) int64, the chosen tokens.
        logprob, warped_logprob: (T,) float32, of the chosen token.
        rank: (T,) int32, 1 + how many tokens are strictly likelier in the raw distribution.
        entropy, warped_entropy: (T,) float32, nats.
        sum_p2: (T,) float32, the sum of the squared raw probabilities.
        logit_std: (T,) float32, the standard deviation of the raw logits (the population's).
        vocab_mean_logprob: (T,) float32, the mean raw log-probability over the vocabulary.
        kept: (T,) int32, how many tokens truncation left.
        kept_mass: (T,) float32, the raw probability of those.
        allowed_logprob: (T,) float32, log of the raw probability of the tokens that a grammar allowed;
            None without one.
        top_ids: (T, k) int64, the k likeliest tokens of the raw distribution, likeliest first.
        top_logprobs, top_warped_logprobs: (T, k) float32.
        token: (T,) the text that each token adds to the output.
        top_tokens: (T, k) the alternatives' texts.
    """

    token_id: np.ndarray | None = None
    logprob: np.ndarray | None = None
    warped_logprob: np.ndarray | None = None
    rank: np.ndarray | None = None
    entropy: np.ndarray | None = None
    warped_entropy: np.ndarray | None = None
    sum_p2: np.ndarray | None = None
    logit_std: np.ndarray | None = None
    vocab_mean_logprob: np.ndarray | None = None
    kept: np.ndarray | None = None
    kept_mass: np.ndarray | None = None
    allowed_logprob: np.ndarray | None = None
    top_ids: np.ndarray | None = None
    top_logprobs: np.ndarray | None = None
    top_warped_logprobs: np.ndarray | None = None
    token: tuple[str, ...] | None = None
    top_tokens: tuple[tuple[str, ...], ...] | None = None

    def numbers(self) -> dict[str, np.ndarray]:
        """Return the columns of numbers that are known, by name."""
        return {name: column for name, column in vars(self).items() if isinstance(column, np.ndarray)}

    def __len__(self) -> int:
        """Return T, the length of whichever column is known; 0 when none is."""
        known = (column for column in vars(self).values() if column is not None)
        return len(next(known, ()))


@dataclass(frozen=True)
class Times:
    """When a sample was generated, in a batch of so many requests; seconds since the epoch.

    The prefill of its batch started, its first and its last token were chosen (of beams: the first step was
    done, the search was over).
    """

    started: float
    first_token: float
    ended: float
    batch: int


@dataclass(frozen=True)
class Served:
    """What a server told about one answer, and what it took to get it; None where it is not known.

    Attributes:
        attempts: requests that were sent, those that failed included.
        sent, first_token, ended: of the last one, seconds since the epoch.
        chunks: parts of the stream that had text.
        prompt_tokens, output_tokens, cached_tokens, reasoning_tokens: as the server counts them.
        cost_usd: what the answer cost.
        model, provider, fingerprint, request_id: as the server names them.
        reasoning: what the model wrote apart from the answer.
        error: what cut the answer off.
    """

    attempts: int
    sent: float
    ended: float
    first_token: float | None = None
    chunks: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    model: str | None = None
    provider: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    reasoning: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Sample:
    """One generated text: a point, a prompt, a sample index.

    Attributes:
        prompt_id: the prompt's id within its set.
        sample: index among the samples of this prompt, from 0.
        prompt: the text as the model got it.
        output: decode(prompt + generated) less decode(prompt), stop strings kept.
        prompt_tokens, output_tokens: how many tokens each has, an EOS that ended it included; None where the
            backend does not tell.
        finish_reason: what ended it; None where the backend does not tell.
        seed: of the noise that it was drawn with.
        steps: one entry a generated token; None where nothing is known of them.
        sequence_score: what a search ranks it by: transformers' length-penalised beam score; of stochastic
            beams the log-probability with its noise; None without beams.
        sequence_logprob: of the whole output under the distribution that it was drawn from; None but of
            stochastic beams.
        times: when it was generated; None where that was not noted.
        served: what a server told about it; None of a model in this process.
    """

    prompt_id: str
    sample: int
    prompt: str
    output: str
    prompt_tokens: int | None
    output_tokens: int | None
    finish_reason: FinishReason | ServedReason | None
    seed: int
    steps: Steps | None = None
    sequence_score: float | None = None
    sequence_logprob: float | None = None
    times: Times | None = None
    served: Served | None = None

    @property
    def token_ids(self) -> tuple[int, ...] | None:
        """The generated ids; None where the backend does not tell."""
        ids = None if self.steps is None else self.steps.token_id
        return None if ids is None else tuple(ids.tolist())

    @property
    def mean_logprob(self) -> float | None:
        """Mean logprob of the generated tokens; None where it is not known, or an error cut them off."""
        logprob = None if self.steps is None or self.finish_reason == "error" else self.steps.logprob
        return None if logprob is None or not len(logprob) else float(logprob.astype(np.float64).mean())


@dataclass(frozen=True)
class PromptScores:
    """How likely a prompt's own tokens are: (P,) arrays; position 0 has no context and is NaN, rank 0.

    Attributes:
        prompt_id: the prompt's id within its set.
        token_id: (P,) int64.
        logprob, entropy: (P,) float32, nats.
        rank: (P,) int32, 1 + how many tokens are strictly likelier.
        token: (P,) the text of each token.
    """

    prompt_id: str
    token_id: np.ndarray
    logprob: np.ndarray
    rank: np.ndarray
    entropy: np.ndarray
    token: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repetition:
    """One timed repetition of one batch; milliseconds.

    Attributes:
        prompt_id: the prompt, or the batch's prompts joined by a comma.
        repeat: index of the repetition, from 0.
        batch_size: prompts decoded together.
        ttft_ms: from text in to first token out; None for beams, which stream nothing.
        decode_ms: from first token out to the last (the whole run for beams).
        output_tokens: tokens made per prompt; None where a server does not count them.
        itl_ms: time between consecutive tokens, output_tokens - 1 of them; empty for beams, and where a
            server sent several tokens at once.
    """

    prompt_id: str
    repeat: int
    batch_size: int
    ttft_ms: float | None
    decode_ms: float
    output_tokens: int | None
    itl_ms: tuple[float, ...]
