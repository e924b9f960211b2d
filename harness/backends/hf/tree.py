"""The sweep is a tree: strategies that pick one token a step from one row decode together.

The batch starts with one row a prompt. At each step every sequence chooses its token from the logits of its
row; a row splits where choices differ and is removed when no sequence is left on it. So each prompt is
prefilled once, and every distinct prefix is computed once for all strategies and samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.backends.backend import Failure, Request
from harness.backends.hf.adaptive_batches import out_of_memory
from harness.backends.hf.clock import Clock
from harness.backends.hf.cuda_graphs import CudaGraphRunner
from harness.backends.hf.decoding_method import StrategyError, Work
from harness.backends.hf.finished import finished_sample
from harness.backends.hf.forward import forward
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.recorder import RawStep, Recorder
from harness.backends.hf.row_cache import RowLayer, row_cache, select_rows
from harness.backends.hf.sampler import BatchRows, Sequences, choose_by_samplers, choose_tokens
from harness.backends.hf.strategy_processors import strategy_processors
from harness.backends.hf.wide_head import in_blocks
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.decoding.processors import Processors
from harness.decoding.strategy import Strategy
from harness.models.load import LoadedModel
from harness.store.records import FinishReason, Sample


@dataclass
class _Sequence:
    """A sequence being generated: its row of the batch, its tokens so far, and what ended it."""

    number: int
    row: int
    key: int
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None


@dataclass
class _StrategyGroup:
    """The unfinished sequences of one strategy."""

    strategy: Strategy
    processors: Processors
    sequences: list[_Sequence]


@torch.inference_mode()
def decode_tree(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    share: bool = True,
    capture: bool = False,
    recorder: Recorder | None = None,
    on_step: Callable[[int], None] = lambda _: None,
    on_work: Callable[[Work], None] = lambda _: None,
) -> list[Sample | Failure]:
    """Decode requests of any single-row strategies together.

    Args:
        loaded: the model.
        requests: prompts with the same ids share a row.
        detokenizer: of the model's tokenizer; finds stop strings.
        share: False gives each request a row of its own, to measure what sharing saves.
        capture: run the steps through static buffers, as CUDA graphs where there is CUDA; for models that
            are `capturable`.
        recorder: a fresh one that sees every step; made here when None.
        on_step: called after each step with the number of sequences that got a token.
        on_work: called once at the end.

    Returns:
        One Sample a request, in their order; a Failure where its numbers are not finite.

    Raises:
        StrategyError: a strategy's processors raised.
    """
    recorder = recorder or Recorder(max(request.strategy.top_k for request in requests))
    clock = Clock()
    batch = _Batch(loaded, requests, share, capture)
    groups = _strategy_groups(loaded, requests, batch.sequences)
    rows = generated = 0
    for step in range(max(request.strategy.max_new_tokens for request in requests)):
        raw = recorder.begin_step(batch.logits)
        rows += len(batch.logits)
        chosen = _choose_tokens(groups, batch, raw, recorder, step)
        recorder.end_step(raw)
        # Here the host waits for the device; otherwise only where truncations ask whether they are decided.
        tokens = iter(chosen.tolist())
        clock.step()
        for group in groups:
            for sequence in group.sequences:
                sequence.tokens.append(next(tokens))
        on_step(len(chosen))
        generated += len(chosen)
        for group in groups:
            group.sequences = [
                sequence
                for sequence in group.sequences
                if not _finishes(sequence, requests[sequence.number], detokenizer)
            ]
        groups = [group for group in groups if group.sequences]
        if not groups:
            break
        batch.advance([sequence for group in groups for sequence in group.sequences], step)
    on_work(Work(rows, generated))
    recorded = recorder.finish()
    samples = []
    for request, sequence in zip(requests, batch.sequences, strict=True):
        length = len(sequence.tokens)
        steps = recorded.steps(sequence.number, length, request.strategy.top_k)
        times = clock.times(length, len(requests))
        reason = sequence.finish_reason or "length"
        sample = finished_sample(loaded, request, sequence.tokens, reason, steps, times, detokenizer)
        samples.append(sample)
    return samples


class _Batch:
    """The rows of the batch: their ids, mask, cache and logits, and the row of each sequence."""

    def __init__(self, loaded: LoadedModel, requests: Sequence[Request], share: bool, capture: bool) -> None:
        """Prefill each distinct prompt once and put every sequence on its row."""
        self._model, self._device = loaded.model, loaded.device
        self._share = share
        row_of: dict[tuple[tuple[int, ...], int], int] = {}
        self.sequences = []
        for number, request in enumerate(requests):
            row = row_of.setdefault((request.prompt.ids, 0 if share else number), len(row_of))
            key = noise_key(request.strategy.seed, request.prompt.id, request.sample)
            self.sequences.append(_Sequence(number, row, key))
        prompts = [ids for ids, _ in row_of]
        self.prompt_tokens = [len(ids) for ids in prompts]
        inputs = pad_left(prompts, requests[0].strategy.pad_token_id, self._device)
        self.ids, self._mask = inputs["input_ids"], inputs["attention_mask"]
        self.width = self.ids.shape[1]
        budget = max(request.strategy.max_new_tokens for request in requests)
        self._cache = row_cache(self._model.config, len(requests), self.width + budget)
        self._graphs = None
        if capture and all(isinstance(layer, RowLayer) for layer in self._cache.layers):
            cuda = self._device.startswith("cuda")
            room = (len(requests), self.width + budget)
            self._graphs = CudaGraphRunner(self._forward, self._cache, *room, self._device, cuda)
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self.logits = self._forward(self.ids, self._mask, positions)

    def advance(self, sequences: Sequence[_Sequence], step: int) -> None:
        """Move each sequence to the row of the token it chose: split and remove rows, and compute them.

        A row's first continuation stays where it is; splits and the last rows fill the free rows, so that few
        rows are copied.
        """
        children: dict[tuple[int, int, int], list[_Sequence]] = {}
        for sequence in sequences:
            child = (sequence.row, sequence.tokens[-1], 0 if self._share else sequence.number)
            children.setdefault(child, []).append(sequence)
        slots: list[tuple[int, int, int] | None] = [None] * len(children)
        displaced = []
        for child in children:
            parent = child[0]
            if parent < len(slots) and slots[parent] is None:
                slots[parent] = child
            else:
                displaced.append(child)
        rest = iter(displaced)
        rows = [child if child is not None else next(rest) for child in slots]
        for row, child in enumerate(rows):
            for sequence in children[child]:
                sequence.row = row
        parents = [parent for parent, _, _ in rows]
        tokens = torch.tensor([[token] for _, token, _ in rows], device=self._device)
        if parents != list(range(len(self.prompt_tokens))):
            select_rows(self._cache, parents, self._device)
            index = torch.tensor(parents, device=self._device)
            self.ids, self._mask = self.ids[index], self._mask[index]
            self.prompt_tokens = [self.prompt_tokens[parent] for parent in parents]
        self.ids = torch.cat([self.ids, tokens], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(tokens)], dim=1)
        positions = torch.tensor([[length + step] for length in self.prompt_tokens], device=self._device)
        self.logits = (self._graphs or self._forward)(tokens, self._mask, positions)

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return (R, V) float32 logits of the next token."""
        with in_blocks(self._model):
            logits, _ = forward(self._model, ids, mask, self._cache, position_ids=positions, logits_to_keep=1)
        return logits[:, -1]


def _strategy_groups(
    loaded: LoadedModel, requests: Sequence[Request], sequences: Sequence[_Sequence]
) -> list[_StrategyGroup]:
    groups: dict[int, _StrategyGroup] = {}
    for request, sequence in zip(requests, sequences, strict=True):
        strategy = request.strategy
        if id(strategy) not in groups:
            processors = strategy_processors(loaded, strategy)
            groups[id(strategy)] = _StrategyGroup(strategy, processors, [])
        groups[id(strategy)].sequences.append(sequence)
    return list(groups.values())


def _choose_tokens(
    groups: Sequence[_StrategyGroup], batch: _Batch, raw: RawStep, recorder: Recorder, step: int
) -> Tensor:
    """Return (N,) tokens of the groups' sequences, in their order."""
    rows = BatchRows(batch.ids, batch.prompt_tokens, batch.width, step)
    sampling = [group for group in groups if group.processors.only_samples]
    tokens: dict[int, Tensor] = {}
    if sampling:
        strategies = [group.processors for group in sampling]
        which = [index for index, group in enumerate(sampling) for _ in group.sequences]
        sequences = _inputs([s for group in sampling for s in group.sequences], do_sample=True)
        drawn = choose_by_samplers(strategies, which, recorder, raw, rows, sequences)
        by_group = drawn.split([len(group.sequences) for group in sampling])
        tokens |= {id(group): own for group, own in zip(sampling, by_group, strict=True)}
    for group in groups:
        if id(group) in tokens:
            continue
        try:
            sequences = _inputs(group.sequences, group.strategy.do_sample)
            tokens[id(group)] = choose_tokens(group.processors, recorder, raw, rows, sequences)
        except Exception as error:
            if out_of_memory(error):  # no strategy's fault
                raise
            raise StrategyError(group.strategy, error) from error
    return torch.cat([tokens[id(group)] for group in groups])


def _inputs(sequences: Sequence[_Sequence], do_sample: bool) -> Sequences:
    return Sequences(
        numbers=[sequence.number for sequence in sequences],
        rows=[sequence.row for sequence in sequences],
        keys=[sequence.key for sequence in sequences] if do_sample else None,
    )


def _finishes(sequence: _Sequence, request: Request, detokenizer: Detokenizer) -> bool:
    """Return whether a sequence's last token finished it, and note why."""
    strategy = request.strategy
    stops = strategy.stop_strings
    if stops and detokenizer.contains(stops, request.prompt.ids, sequence.tokens):
        sequence.finish_reason = "stop_string"
    elif sequence.tokens[-1] in strategy.eos_token_ids:
        sequence.finish_reason = "eos"
    elif len(sequence.tokens) >= strategy.max_new_tokens:
        sequence.finish_reason = "length"
    return sequence.finish_reason is not None
