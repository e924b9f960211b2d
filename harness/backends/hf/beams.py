"""Beam search and beam sampling: stock `generate`, then rescoring of the best sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from transformers import StoppingCriteriaList

from harness.backends.backend import Request
from harness.backends.hf.batch import StepCallback, StopStrings, find_end, pad_left
from harness.backends.hf.clock import Clock
from harness.backends.hf.finished import finished_sample
from harness.backends.hf.generation_config import generation_config
from harness.backends.hf.rescore import rescore
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.store.records import Sample

if TYPE_CHECKING:
    from harness.models.load import LoadedModel


@torch.inference_mode()
def beam_search(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    on_step: Callable[[int], None] | None = None,
) -> list[Sample]:
    """Search for the best sequence of each request.

    Args:
        loaded: the model.
        requests: of one strategy; several only if `methods.Beams.batches_requests`.
        detokenizer: of the model's tokenizer; finds stop strings.
        on_step: called after each step with the number of requests.

    Returns:
        One Sample a request, in their order, `sequence_score` set.
    """
    clock = Clock()
    strategy = requests[0].strategy
    prompts = [request.prompt.ids for request in requests]
    inputs = pad_left(prompts, strategy.pad_token_id, loaded.device)
    width = inputs["input_ids"].shape[1]
    stops = StopStrings(detokenizer, prompts, strategy.stop_strings)
    count = None if on_step is None else (lambda _: on_step(len(requests)))
    # A search still has work to queue in its step, so the host waits only where its prefill ends.
    criteria = StoppingCriteriaList([stops] if strategy.stop_strings else [])
    criteria.append(StepCallback(clock, count, wait_for=1))
    cuda = [loaded.device] if loaded.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        if strategy.do_sample:
            first = requests[0]
            # The key of the shared noise; the global generator takes 64 bits.
            torch.manual_seed(noise_key(strategy.seed, first.prompt.id, first.sample) & (2**63 - 1))
        output = loaded.model.generate(
            **inputs, generation_config=generation_config(strategy), stopping_criteria=criteria
        )
    samples = []
    generated = output[:, width:].tolist()
    clock.step()
    for index, (request, ids) in enumerate(zip(requests, generated, strict=True)):
        length, reason = find_end(ids, strategy.eos_token_ids, partial(stops.found, index))
        token_ids = tuple(ids[:length])
        steps, score = rescore(loaded, strategy, request.prompt.ids, token_ids)
        samples.append(
            finished_sample(
                request,
                token_ids,
                finish_reason=reason,
                steps=steps,
                detokenizer=detokenizer,
                sequence_score=score,
                times=clock.times_of_all(len(requests)),
            )
        )
    return samples
