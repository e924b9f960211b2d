"""Beam search and beam sampling: stock `generate`, then rescoring of the sequence that won."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import StoppingCriteriaList

from harness.backends.hf.batch import EachStep, Row, StopStrings, ended, pad_left
from harness.backends.hf.clock import Clock
from harness.backends.hf.finished import finished_sample
from harness.backends.hf.rescore import rescore
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.decoding.processors import stock_processors
from harness.decoding.strategy import Strategy
from harness.store.records import Sample

if TYPE_CHECKING:
    from harness.models.load import LoadedModel


def rows_together(loaded: LoadedModel, strategy: Strategy) -> bool:
    """Whether prompts of different lengths may share a beam search.

    A strategy that draws takes its luck from the global generator, and stock processors see the left
    padding of a ragged batch: those search one prompt at a time.
    """
    return not strategy.draws and not stock_processors(loaded.model, strategy.config(), 1, loaded.device)


@torch.inference_mode()
def search(
    loaded: LoadedModel,
    strategy: Strategy,
    rows: Sequence[Row],
    detokenizer: Detokenizer,
    *,
    on_step: Callable[[int], None] | None = None,
) -> list[Sample]:
    """Search for the best sequence of each row; rows share a batch only if `rows_together`.

    Returns:
        One Sample a row, in their order, `sequence_score` set.
    """
    clock = Clock()
    prompts = [row.prompt.ids for row in rows]
    inputs = pad_left(prompts, strategy.pad_token_id, loaded.device)
    width = inputs["input_ids"].shape[1]
    criteria = StoppingCriteriaList()
    stops = None
    if strategy.stop_strings:
        stops = StopStrings(detokenizer, prompts, strategy.stop_strings)
        criteria.append(stops)
    told = None if on_step is None else (lambda beam_rows: on_step(beam_rows // strategy.beams))
    # A search still has work to queue in its step, so it is held up only where its prefill ends.
    criteria.append(EachStep(clock, told, wait_for=1))
    cuda = [loaded.device] if loaded.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        if strategy.draws:
            row = rows[0]
            # The same key as everyone's luck; the global generator takes 64 bits.
            torch.manual_seed(noise_key(strategy.seed, row.prompt.id, row.sample) & (2**63 - 1))
        output = loaded.model.generate(
            **inputs, generation_config=strategy.config(), stopping_criteria=criteria
        )
    samples = []
    generated = output[:, width:].tolist()
    clock.step()
    for index, (row, ids) in enumerate(zip(rows, generated, strict=True)):
        stopped = None if stops is None else (lambda part, index=index, stops=stops: stops.holds(index, part))
        length, reason = ended(ids, strategy.eos_token_ids, stopped)
        token_ids = tuple(ids[:length])
        steps, score = rescore(loaded, strategy, row.prompt.ids, token_ids)
        samples.append(
            finished_sample(
                row.prompt,
                row.sample,
                token_ids,
                finish_reason=reason,
                seed=strategy.seed,
                steps=steps,
                detokenizer=detokenizer,
                sequence_score=score,
                times=clock.times_of_all(len(rows)),
            )
        )
    return samples
