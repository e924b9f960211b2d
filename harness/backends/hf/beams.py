"""Beam search and beam sampling: stock `generate`, then rescoring of the best sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from harness.backends.backend import Failure, Request
from harness.backends.hf.padded_batch import generate_batch
from harness.backends.hf.rescore import beam_score, of_beams, rescore
from harness.backends.steps.finished import finished_sample
from harness.backends.steps.generation_config import generation_config
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.models.load import LoadedModel
from harness.store.records import Sample


@torch.inference_mode()
def beam_search(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    use_cache: bool = True,
    on_step: Callable[[int], None] = lambda _: None,
) -> list[Sample | Failure]:
    """Search for the best sequence of each request; return one Sample a request, with `sequence_score`.

    Args:
        loaded: the model.
        requests: of one strategy; several only if `methods.Beams.batches_requests`.
        detokenizer: of the model's tokenizer; finds stop strings.
        use_cache: False computes every step from the whole text.
        on_step: called after each step with the number of requests.
    """
    strategy = requests[0].strategy
    cuda = [loaded.device] if loaded.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        if strategy.do_sample:
            first = requests[0]
            # The key of the shared noise; the global generator takes 64 bits.
            torch.manual_seed(noise_key(strategy.seed, first.prompt.id, first.sample) & (2**63 - 1))
        config = generation_config(strategy, use_cache=use_cache)
        found = generate_batch(loaded, requests, detokenizer, config, on_step)
    samples = []
    for request, (token_ids, reason, times) in zip(requests, found, strict=True):
        ids = request.prompt.ids
        steps, total = rescore(loaded, strategy, ids, token_ids, of_beams(loaded, strategy, len(ids)))
        score = beam_score(strategy, token_ids, total)
        sample = finished_sample(loaded, request, token_ids, reason, steps, times, detokenizer, score)
        samples.append(sample)
    return samples
