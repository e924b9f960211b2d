"""The way around the tree, for models whose caches it does not handle: stock `generate`, one strategy alone.

`generate` runs the model and the cache; a logits processor of ours is the strategy: it sees the raw
logits, warps them, chooses the token with the shared luck, records both distributions, and leaves only
the chosen token standing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from harness.backends.hf.batch import EachStep, Row, StopStrings, ended, pad_left
from harness.backends.hf.clock import Clock
from harness.backends.hf.finished import finished_sample
from harness.backends.hf.recorder import Recorder
from harness.backends.hf.sampler import Choosing, Rows, choose
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.decoding.processors import Processors
from harness.decoding.strategy import Strategy
from harness.store.records import Sample

if TYPE_CHECKING:
    from harness.models.load import LoadedModel


class Chooser(LogitsProcessor):
    """Picks each row's token by the strategy, and shows the recorder what it saw."""

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
            keys: (R,) luck keys, or None to take the likeliest token.
            prompt_tokens: (R,) tokens of each row's prompt; the batch is padded to the longest.
        """
        self._processors = processors
        self._recorder = recorder
        self._keys = keys
        self._prompt_tokens = prompt_tokens
        self._width = max(prompt_tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(R, V) scores in which only the chosen token is finite."""
        seen = self._recorder.look(scores)
        rows = Rows(input_ids, self._prompt_tokens, self._width, input_ids.shape[1] - self._width)
        those = Choosing(range(len(scores)), range(len(scores)), self._keys)
        tokens = choose(self._processors, self._recorder, seen, rows, those)
        self._recorder.end_step(seen)
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)


@torch.inference_mode()
def decode_rows(
    loaded: LoadedModel,
    strategy: Strategy,
    rows: Sequence[Row],
    detokenizer: Detokenizer,
    *,
    recorder: Recorder | None = None,
    on_step: Callable[[int], None] | None = None,
) -> list[Sample]:
    """Decode rows together with one strategy.

    Args:
        loaded: the model.
        strategy: one that needs a single row a sample.
        rows: what to make; prompts may be of different lengths.
        detokenizer: of the model's tokenizer; finds stop strings.
        recorder: a fresh one that sees every step; made here when None.
        on_step: called after each step with the number of rows.

    Returns:
        One Sample a row, in their order.
    """
    model, device = loaded.model, loaded.device
    clock = Clock()
    prompts = [row.prompt.ids for row in rows]
    inputs = pad_left(prompts, strategy.pad_token_id, device)
    width = inputs["input_ids"].shape[1]
    keys = None
    if strategy.draws:
        keys = [noise_key(strategy.seed, row.prompt.id, row.sample) for row in rows]
    recorder = recorder if recorder is not None else Recorder(strategy.top_k)
    processors = Processors(model, strategy.config(), device)
    criteria = StoppingCriteriaList()
    stops = None
    if strategy.stop_strings:
        stops = StopStrings(detokenizer, prompts, strategy.stop_strings)
        criteria.append(stops)
    criteria.append(EachStep(clock, on_step))

    generated = model.generate(
        **inputs,
        generation_config=strategy.neutral_config(),
        logits_processor=LogitsProcessorList(
            [Chooser(processors, recorder, keys, [len(ids) for ids in prompts])]
        ),
        stopping_criteria=criteria,
    )[:, width:].tolist()

    recorded = recorder.finish()
    samples = []
    for index, (row, ids) in enumerate(zip(rows, generated, strict=True)):
        stopped = None if stops is None else (lambda part, index=index, stops=stops: stops.holds(index, part))
        length, reason = ended(ids, strategy.eos_token_ids, stopped)
        samples.append(
            finished_sample(
                row.prompt,
                row.sample,
                ids[:length],
                finish_reason=reason,
                seed=strategy.seed,
                steps=recorded.steps(index, length, strategy.top_k),
                detokenizer=detokenizer,
                times=clock.times(length, len(rows)),
            )
        )
    return samples
