"""Stock `generate` with one strategy at a time, for models and caches that the tree does not handle.

`generate` runs the model and the cache; a logits processor of ours applies the strategy: it sees the raw
logits, warps them, chooses the token with the shared noise, records both distributions, and leaves only the
chosen token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor
from transformers import LogitsProcessor

from harness.backends.backend import Failure, Request
from harness.backends.hf.decoding_method import GenerateMode
from harness.backends.hf.guided_texts import GuidedTexts
from harness.backends.hf.padded_batch import generate_batch
from harness.backends.steps.finished import finished_sample
from harness.backends.steps.generation_config import generation_config
from harness.backends.steps.recorder import Recorder
from harness.backends.steps.sampler import BatchRows, Choosing, Sequences, choose_tokens
from harness.backends.steps.strategy_processors import strategy_processors
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.decoding.processors import Processors
from harness.models.load import LoadedModel
from harness.store.records import Sample


class _TokenChooser(LogitsProcessor):
    """Chooses each row's token by the strategy, and lets the recorder see the step."""

    def __init__(
        self,
        processors: Processors,
        recorder: Recorder,
        keys: Sequence[int] | None,
        prompts: Sequence[int],
        guided: GuidedTexts | None,
        ranks: Sequence[int] | None,
    ) -> None:
        """`keys` and `ranks` are as in `Sequences`; `prompts` are the tokens of each, without padding."""
        self._processors, self._recorder, self._guided = processors, recorder, guided
        self._keys, self._prompt_tokens, self._ranks = keys, prompts, ranks
        self._width = max(prompts)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return (R, V) scores in which only the chosen token is finite."""
        raw = self._recorder.begin_step(scores)
        step = input_ids.shape[1] - self._width
        rows = BatchRows(input_ids, self._prompt_tokens, self._width, step)
        every: Sequence[int] = range(len(scores))
        seen = every
        if self._guided is not None:
            raw, seen = self._guided(raw, input_ids[:, -1] if step else None)
        sequences = Sequences(every, every, self._keys, seen, self._ranks)
        (tokens,) = choose_tokens([Choosing(self._processors, sequences)], self._recorder, raw, rows)
        self._recorder.end_step(raw)
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)


@torch.inference_mode()
def stock_generate(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    use_cache: bool = True,
    amateur: Callable[[str], LoadedModel] | None = None,
    recorder: Recorder | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> list[Sample | Failure]:
    """Decode requests of one strategy together; return one Sample a request, in their order, or a Failure.

    Args:
        loaded: the model.
        requests: of one strategy that needs a single row a request; prompts may be of different lengths.
        detokenizer: of the model's tokenizer; finds stop strings.
        use_cache: False computes every step from the whole text.
        amateur: returns the loaded model of this name, for contrastive decoding.
        recorder: a fresh one that sees every step; made here when None.
        on_step: called after each step with the number of requests.
    """
    strategy = requests[0].strategy
    keys = None
    if strategy.do_sample:
        keys = [noise_key(strategy.seed, request.prompt.id, request.sample) for request in requests]
    recorder = recorder or Recorder(strategy.top_k)
    processors = strategy_processors(loaded, strategy)
    guided = None
    if processors.guidance is not None:
        mode = GenerateMode("equal_length", use_cache)
        guided = GuidedTexts(loaded, processors.guidance, requests, mode, amateur)
    prompts = [len(request.prompt.ids) for request in requests]
    ranks = [request.sample for request in requests] if strategy.branches else None
    chooser = _TokenChooser(processors, recorder, keys, prompts, guided, ranks)
    # `generate` itself changes nothing: it has the budget, the end tokens and the cache.
    neutral = generation_config(
        replace(strategy, effective=effective_decoding(Decoding(name="neutral"))), use_cache=use_cache
    )
    with nullcontext() if guided is None else guided.watching():
        generated = generate_batch(loaded, requests, detokenizer, neutral, on_step, chooser)
    recorded = recorder.finish()
    samples = []
    for index, (request, (token_ids, reason, times)) in enumerate(zip(requests, generated, strict=True)):
        steps = recorded.steps(index, len(token_ids), strategy.top_k)
        samples.append(finished_sample(loaded, request, token_ids, reason, steps, times, detokenizer))
    return samples
