"""Steps that the backend's recorder recorded over synthetic logits, with their complete distributions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers.generation import logits_process as stock

from harness.analysis.replay.stored_steps import StoredSteps
from harness.analysis.replay.warp import Warp
from harness.backends.steps.recorder import Recorder
from harness.decoding.gumbel import draw, noise_key
from harness.store.records import Steps


def processors(warp: Warp) -> list:
    """The stock list of a strategy, in `generate`'s order."""
    found: list = []
    if warp.temperature != 1.0:
        found.append(stock.TemperatureLogitsWarper(warp.temperature))
    if warp.n_sigma:
        found.append(lambda _, x: keep(x, x >= best(x) - warp.n_sigma * deviation(x)))
    if warp.top_k:
        found.append(stock.TopKLogitsWarper(warp.top_k))
    if warp.top_p < 1.0:
        found.append(stock.TopPLogitsWarper(warp.top_p))
    if warp.min_p:
        found.append(stock.MinPLogitsWarper(warp.min_p))
    if warp.epsilon:
        found.append(stock.EpsilonLogitsWarper(warp.epsilon))
    if warp.eta:
        found.append(stock.EtaLogitsWarper(warp.eta))
    if warp.top_a:
        found.append(lambda _, x: keep(x, x.softmax(-1) >= warp.top_a * x.softmax(-1).amax(-1, True) ** 2))
    if warp.p_less:
        found.append(lambda _, x: keep(x, x.log_softmax(-1) >= p_less(x, warp.p_less > 1)))
    return found


def best(logits: Tensor) -> Tensor:
    return logits.amax(-1, keepdim=True)


def keep(logits: Tensor, kept: Tensor) -> Tensor:
    return logits.masked_fill(~(kept | (logits == best(logits))), -torch.inf)


def deviation(logits: Tensor) -> Tensor:
    rows = [row[row.isfinite()].double().std(correction=0) for row in logits]
    return torch.stack(rows)[:, None].float()


def p_less(logits: Tensor, normalised: bool) -> Tensor:
    squares = logits.softmax(-1).square().sum(-1, keepdim=True)
    if normalised:
        squares = ((logits.shape[1] * squares - 1) / (logits.shape[1] - 1)).clamp(min=0.0)
    return squares.log() - 1e-6


def warped_by(warp: Warp, logits: Tensor) -> Tensor | None:
    """The logits that the strategy samples from; None if nothing warps them."""
    warped = logits
    for processor in processors(warp):
        warped = processor(None, warped)
    return None if warped is logits else warped


@dataclass(frozen=True)
class Real:
    """The decoded steps of a strategy.

    Attributes:
        logits: (S, V) raw.
        warped: (S, V) what it sampled from.
        steps: as recorded.
    """

    logits: Tensor
    warped: Tensor
    steps: Steps

    @property
    def chosen(self) -> np.ndarray:
        return self.steps.token_id


SAMPLES = 4


def keys_of(count: int, seed: int) -> Tensor:
    return torch.tensor([noise_key(seed, f"p{row // SAMPLES}", row % SAMPLES) for row in range(count)])


def decode(warp: Warp, logits: Tensor, top_k: int, seed: int = 0) -> Real:
    """Decode the first step of a strategy, one sample per row of logits."""
    warped = warped_by(warp, logits)
    scores = logits if warped is None else warped
    rows = torch.arange(len(logits))
    tokens = draw(scores, keys_of(len(logits), seed), 0) if warp.draws else scores.argmax(-1)
    recorder = Recorder(top_k)
    raw = recorder.begin_step(logits)
    recorder.observe(range(len(logits)), raw, rows, tokens, warped, rows)
    recorder.end_step(raw)
    recorded = recorder.finish()
    steps = [recorded.steps(row, 1, top_k) for row in range(len(logits))]
    return Real(logits, scores, _together(steps))


def _together(steps: list[Steps]) -> Steps:
    return Steps(**{name: np.concatenate([getattr(s, name) for s in steps]) for name in steps[0].numbers()})


def stored(real: Real, vocabulary: float | None = None) -> StoredSteps:
    """The steps as replay reads them."""
    steps, count = real.steps, len(real.steps)
    return StoredSteps(
        prompt_ids=[f"p{row // SAMPLES}" for row in range(count)],
        samples=[row % SAMPLES for row in range(count)],
        offsets=np.arange(count + 1),
        chosen=steps.token_id,
        chosen_logprob=steps.logprob.astype(np.float64),
        rank=steps.rank.astype(np.int64),
        entropy=steps.entropy.astype(np.float64),
        squares=steps.sum_p2.astype(np.float64),
        deviation=steps.logit_std.astype(np.float64),
        top_ids=steps.top_ids,
        top_logprobs=steps.top_logprobs.astype(np.float64),
        top_kept=steps.top_warped_logprobs > -np.inf,
        vocabulary=real.logits.shape[1] if vocabulary is None else vocabulary,
    )
