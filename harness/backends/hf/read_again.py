"""An output read again: its probabilities from one pass over the text by itself, and what would be chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from harness.backends.backend import ReadAgain, Request
from harness.backends.hf.teacher_forcing import logits_along
from harness.backends.steps.recorder import Recorder
from harness.backends.steps.sampler import BatchRows, Choosing, Sequences, choose_tokens
from harness.backends.steps.strategy_processors import strategy_processors
from harness.config.effective import acts, searches
from harness.decoding.gumbel_numpy import key_of_step, noise_key
from harness.models.load import LoadedModel


@torch.inference_mode()
def read_again(loaded: LoadedModel, request: Request, generated: Sequence[int]) -> ReadAgain:
    """Return what is recorded along `generated` when a model reads it alone, without a cache.

    All positions are chosen for at once, as if they were rows of a batch, so a strategy whose processors look
    at the tokens so far gets its raw distributions only.
    """
    strategy, prompt = request.strategy, request.prompt
    processors = strategy_processors(loaded, strategy)
    compares = searches(strategy.effective) or acts(strategy.effective, "cot_branches")
    chooses = not compares and processors.reads_scores_only
    key = noise_key(strategy.seed, prompt.id, request.sample)
    recorder = Recorder(0)
    ids = (*prompt.ids, *generated)
    logprobs, ranks, chosen = [], [], []
    for start, logits in logits_along(loaded, ids, len(prompt.ids)):
        raw = recorder.begin_step(logits)
        rows = torch.arange(len(logits), device=loaded.device)
        tokens = torch.tensor(ids[start : start + len(logits)], device=loaded.device)
        logprobs.append(raw.logprobs(rows, tokens))
        ranks.append(raw.ranks(rows, tokens))
        if chooses:
            first = start - len(prompt.ids)
            keys = [key_of_step(key, first + row) for row in range(len(logits))]
            every = list(range(len(rows)))
            sequences = Sequences([0] * len(rows), every, keys if strategy.do_sample else None, every)
            batch = BatchRows(tokens[:, None], [1] * len(rows), 1, 0)
            (tokens,) = choose_tokens([Choosing(processors, sequences)], recorder, raw, batch)
            chosen.append(tokens)
        else:
            recorder.observe([0] * len(rows), raw, rows, tokens)
        recorder.end_step(raw)
    steps = vars(recorder.finish().steps(0, len(generated), 0))
    warped = ("warped_entropy", "kept_mass") if chooses else ()
    columns = {name: steps[name] for name in ("entropy", *warped)}
    columns["logprob"] = torch.cat(logprobs).cpu().numpy()
    columns["rank"] = torch.cat(ranks).cpu().numpy()
    if not chooses:
        return ReadAgain(columns, None)
    same = steps["token_id"] == np.asarray(generated)
    columns["warped_logprob"] = np.where(same, steps["warped_logprob"], np.nan)
    return ReadAgain(columns, torch.cat(chosen).cpu().numpy())
