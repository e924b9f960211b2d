"""The sweep is a tree: strategies that pick one token a step from one row decode together.

The batch starts with one row a prompt. At each step every sequence chooses its token from the logits of its
row; a row splits where choices differ and is removed when no sequence is left on it. So each prompt is
prefilled once, and every distinct prefix is computed once for all strategies and samples. The rows of second
prompts, with which guided strategies contrast their own, are rows like others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.backends.backend import Failure, Request
from harness.backends.hf.adaptive_batches import out_of_memory
from harness.backends.hf.clock import Clock
from harness.backends.hf.cuda_graphs import StaticSteps
from harness.backends.hf.decoding_method import Work
from harness.backends.hf.guided_logits import GuidedRow, Layers, with_guidance
from harness.backends.hf.row_batch import Member, RowBatch
from harness.backends.steps.finished import end_of, finished_sample
from harness.backends.steps.recorder import RawStep, Recorder
from harness.backends.steps.sampler import BatchRows, Choosing, Sequences, choose_tokens
from harness.backends.steps.strategy_error import StrategyError
from harness.backends.steps.strategy_processors import strategy_processors
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.guidance import ClassifierFree, ContrastiveDecoding, Dola, Guidance
from harness.decoding.gumbel import noise_key
from harness.decoding.processors import Processors
from harness.decoding.strategy import Strategy
from harness.models.load import LoadedModel
from harness.store.records import FinishReason, Sample


@dataclass
class _Sequence:
    """A sequence being generated: its rows, its tokens so far, and what ended it.

    `sample` is that of its request. `second` is its row under the second prompt or in the amateur's batch,
    `seen` that of `RawStep.seen`.
    """

    number: int
    key: int
    sample: int
    member: Member = field(init=False)
    second: Member | None = None
    seen: int = 0
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None


@dataclass
class _StrategyGroup:
    """The unfinished sequences of one strategy."""

    strategy: Strategy
    processors: Processors
    sequences: list[_Sequence]

    @property
    def guidance(self) -> Guidance | None:
        """What guides the strategy."""
        return self.processors.guidance


@torch.inference_mode()
def decode_tree(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    share: bool = True,
    static_steps: StaticSteps | None = None,
    share_prefix: bool = False,
    windows: bool = False,
    amateur: Callable[[str], LoadedModel] | None = None,
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
        static_steps: run the steps through its buffers, as CUDA graphs where there is CUDA; for models that
            are `capturable`. It may have seen other batches of this model.
        share_prefix: keep and read prompts' keys and values once for all of their rows.
        windows: leave sliding windows to transformers' cache, also those that no text reaches.
        amateur: returns the loaded model of this name, for contrastive decoding.
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
    groups = _strategy_groups(loaded, requests)
    sequences = sorted((s for group in groups for s in group.sequences), key=lambda s: s.number)
    batches = _Batches(loaded, requests, groups, share, static_steps, share_prefix, windows, amateur)
    waits = recorder.can_wait and loaded.device.startswith("cuda")
    rows = generated = 0
    for step in range(max(request.strategy.max_new_tokens for request in requests)):
        raw = batches.with_guidance(recorder.begin_step(batches.own.logits), groups)
        rows += batches.rows
        chosen = _choose_tokens(groups, batches.own, raw, recorder, step)
        if not waits:
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
        if groups:
            batches.advance(groups)
        if waits:
            recorder.end_step(raw)
        if not groups:
            break
    on_work(Work(rows, generated))
    recorded = recorder.finish()
    samples = []
    for request, sequence in zip(requests, sequences, strict=True):
        length = len(sequence.tokens)
        steps = recorded.steps(sequence.number, length, request.strategy.top_k)
        times = clock.times(length, len(requests))
        reason = sequence.finish_reason or "length"
        sample = finished_sample(loaded, request, sequence.tokens, reason, steps, times, detokenizer)
        samples.append(sample)
    return samples


class _Batches:
    """The rows that a tree grows on: the model's, second prompts' rows among them, and each amateur's."""

    def __init__(
        self,
        loaded: LoadedModel,
        requests: Sequence[Request],
        groups: Sequence[_StrategyGroup],
        share: bool,
        static_steps: StaticSteps | None,
        share_prefix: bool,
        windows: bool,
        amateur: Callable[[str], LoadedModel] | None,
    ) -> None:
        """Prefill each distinct prompt once and put every sequence on its row."""
        sequences = {sequence.number: sequence for group in groups for sequence in group.sequences}
        guided = {sequence.number: group.guidance for group in groups for sequence in group.sequences}
        prompts = [(request.prompt.ids, 0 if share else n) for n, request in enumerate(requests)]
        seconds = [n for n, one in guided.items() if isinstance(one, ClassifierFree)]
        of_amateurs: dict[str, list[int]] = {}
        for number, one in guided.items():
            if isinstance(one, ContrastiveDecoding):
                of_amateurs.setdefault(one.amateur, []).append(number)
        self.layers = Layers(loaded, list(guided.values()))
        common: dict[str, Any] = {
            "pad": requests[0].strategy.pad_token_id,
            "new_tokens": max(request.strategy.max_new_tokens for request in requests),
        }
        second_prompts = [(requests[n].second_prompt, prompts[n][1]) for n in seconds]
        every = [*prompts, *second_prompts]
        layers = self.layers.wanted
        self.own = RowBatch(
            loaded,
            every,
            static_steps=static_steps,
            layers=layers,
            share_prefix=share_prefix,
            windows=windows,
            **common,
        )
        for number, member in enumerate(self.own.members[: len(requests)]):
            sequences[number].member = member
        for number, member in zip(seconds, self.own.members[len(requests) :], strict=True):
            sequences[number].second = member
        self.amateurs: dict[str, RowBatch] = {}
        for name, numbers in of_amateurs.items():
            assert amateur is not None, "requests of contrastive decoding need an amateur"
            batch = RowBatch(amateur(name), [prompts[n] for n in numbers], **common)
            self.amateurs[name] = batch
            for number, member in zip(numbers, batch.members, strict=True):
                sequences[number].second = member

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return len(self.own) + sum(map(len, self.amateurs.values()))

    def with_guidance(self, raw: RawStep, groups: Sequence[_StrategyGroup]) -> RawStep:
        """Return the step with what guided strategies see, and note at each sequence where that is."""
        wanted: list[tuple[_Sequence, GuidedRow]] = []
        for group in groups:
            for sequence in group.sequences:
                sequence.seen = sequence.member.row
                if group.guidance is not None:
                    second = -1 if sequence.second is None else sequence.second.row
                    wanted.append((sequence, GuidedRow(group.guidance, sequence.seen, second)))
        if not wanted:
            return raw
        logits = raw.logits

        def second_of(guidance: Guidance, rows: Tensor, seconds: Tensor) -> Tensor:
            if isinstance(guidance, Dola):
                assert self.own.hidden is not None
                return self.layers.log_probs(guidance, self.own.hidden[rows])
            if isinstance(guidance, ContrastiveDecoding):
                return self.amateurs[guidance.amateur].logits[seconds]
            return logits.select(seconds).log_p()

        raw, place = with_guidance(raw, [row for _, row in wanted], second_of)
        for sequence, row in wanted:
            sequence.seen = place[row]
        return raw

    def advance(self, groups: Sequence[_StrategyGroup]) -> None:
        """Put each sequence on the row of the token it chose."""
        own: list[tuple[Member, int]] = []
        of_amateurs: dict[str, list[tuple[Member, int]]] = {name: [] for name in self.amateurs}
        for group in groups:
            for sequence in group.sequences:
                token = sequence.tokens[-1]
                own.append((sequence.member, token))
                if sequence.second is not None:
                    name = getattr(group.guidance, "amateur", None)
                    (own if name is None else of_amateurs[name]).append((sequence.second, token))
        self.amateurs = {name: self.amateurs[name] for name, grown in of_amateurs.items() if grown}
        for batch, grown in ((self.own, own), *((self.amateurs[k], of_amateurs[k]) for k in self.amateurs)):
            batch.advance([member for member, _ in grown], [token for _, token in grown])


def _strategy_groups(loaded: LoadedModel, requests: Sequence[Request]) -> list[_StrategyGroup]:
    """Return the sequences of the requests, numbered in their order, by strategy."""
    groups: dict[int, _StrategyGroup] = {}
    for number, request in enumerate(requests):
        strategy = request.strategy
        if id(strategy) not in groups:
            processors = strategy_processors(loaded, strategy)
            groups[id(strategy)] = _StrategyGroup(strategy, processors, [])
        key = noise_key(strategy.seed, request.prompt.id, request.sample)
        groups[id(strategy)].sequences.append(_Sequence(number, key, request.sample))
    return list(groups.values())


def _choose_tokens(
    groups: Sequence[_StrategyGroup], batch: RowBatch, raw: RawStep, recorder: Recorder, step: int
) -> Tensor:
    """Return (N,) tokens of the groups' sequences, in their order."""
    rows = BatchRows(batch.ids, batch.prompt_tokens, batch.width, step)
    chosen = [Choosing(one.processors, _inputs(one.sequences, one.strategy)) for one in groups]

    def failed(number: int, error: Exception) -> Exception:
        # A lack of memory is no strategy's fault.
        return error if out_of_memory(error) else StrategyError(groups[number].strategy, error)

    return torch.cat(choose_tokens(chosen, recorder, raw, rows, failed))


def _inputs(sequences: Sequence[_Sequence], strategy: Strategy) -> Sequences:
    return Sequences(
        numbers=[sequence.number for sequence in sequences],
        rows=[sequence.member.row for sequence in sequences],
        keys=[sequence.key for sequence in sequences] if strategy.do_sample else None,
        seen=[sequence.seen for sequence in sequences],
        ranks=[sequence.sample for sequence in sequences] if strategy.branches else None,
    )


def _finishes(sequence: _Sequence, request: Request, detokenizer: Detokenizer) -> bool:
    """Return whether a sequence's last token finished it, and note why."""
    sequence.finish_reason = end_of(request.strategy, request.prompt.ids, sequence.tokens, detokenizer)
    return sequence.finish_reason is not None
