"""Stock `generate` with one strategy at a time, for models and caches that the tree does not handle.

`generate` runs the model and the cache; a logits processor of ours applies the strategy: it sees the raw
logits, warps them, chooses the token with the shared noise, records both distributions, and leaves only the
chosen token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from harness.backends.backend import Request
from harness.backends.hf.batch import StepCallback, StopStrings, find_end, pad_left
from harness.backends.hf.clock import Clock
from harness.backends.hf.finished import finished_sample
from harness.backends.hf.generation_config import generation_config, neutral_generation_config
from harness.backends.hf.recorder import Recorder
from harness.backends.hf.sampler import BatchRows, Sequences, choose_tokens
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.decoding.processors import Processors
from harness.store.records import Sample

if TYPE_CHECKING:
    from harness.models.load import LoadedModel


class TokenChooser(LogitsProcessor):
    """Chooses each row's token by the strategy, and lets the recorder see the step."""

    def __init__(
        self,
        processors: Processors,
        recorder: Recorder,
        keys: Sequence[int] | None,
        prompt_tokens: Sequence[int],
    ) -> None:
        """
        Args:
            processors: the strategy's.
            recorder: sees every step.
            keys: (R,) noise keys, or None to take the likeliest token.
            prompt_tokens: (R,) tokens of each row's prompt; the batch is padded to the longest.
        """
        self._processors = processors
        self._recorder = recorder
        self._keys = keys
        self._prompt_tokens = prompt_tokens
        self._width = max(prompt_tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return (R, V) scores in which only the chosen token is finite."""
        raw = self._recorder.begin_step(scores)
        rows = BatchRows(input_ids, self._prompt_tokens, self._width, input_ids.shape[1] - self._width)
        sequences = Sequences(range(len(scores)), range(len(scores)), self._keys)
        tokens = choose_tokens(self._processors, self._recorder, raw, rows, sequences)
        self._recorder.end_step(raw)
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)


@torch.inference_mode()
def stock_generate(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    recorder: Recorder | None = None,
    on_step: Callable[[int], None] | None = None,
) -> list[Sample]:
    """Decode requests of one strategy together.

    Args:
        loaded: the model.
        requests: of one strategy that needs a single row a request; prompts may be of different lengths.
        detokenizer: of the model's tokenizer; finds stop strings.
        recorder: a fresh one that sees every step; made here when None.
        on_step: called after each step with the number of rows.

    Returns:
        One Sample a request, in their order.
    """
    model, device = loaded.model, loaded.device
    clock = Clock()
    strategy = requests[0].strategy
    prompts = [request.prompt.ids for request in requests]
    inputs = pad_left(prompts, strategy.pad_token_id, device)
    width = inputs["input_ids"].shape[1]
    keys = None
    if strategy.do_sample:
        keys = [noise_key(strategy.seed, request.prompt.id, request.sample) for request in requests]
    recorder = recorder if recorder is not None else Recorder(strategy.top_k)
    processors = Processors(model, generation_config(strategy), device)
    stops = StopStrings(detokenizer, prompts, strategy.stop_strings)
    criteria = StoppingCriteriaList([stops] if strategy.stop_strings else [])
    criteria.append(StepCallback(clock, on_step))

    generated = model.generate(
        **inputs,
        generation_config=neutral_generation_config(strategy),
        logits_processor=LogitsProcessorList(
            [TokenChooser(processors, recorder, keys, [len(ids) for ids in prompts])]
        ),
        stopping_criteria=criteria,
    )[:, width:].tolist()

    recorded = recorder.finish()
    samples = []
    for index, (request, ids) in enumerate(zip(requests, generated, strict=True)):
        length, reason = find_end(ids, strategy.eos_token_ids, partial(stops.found, index))
        samples.append(
            finished_sample(
                request,
                ids[:length],
                finish_reason=reason,
                steps=recorded.steps(index, length, strategy.top_k),
                detokenizer=detokenizer,
                times=clock.times(length, len(requests)),
            )
        )
    return samples
