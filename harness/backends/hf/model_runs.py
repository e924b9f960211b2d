"""A model run for its cost: stock `generate`, greedy, with a clock among its logits processors.

The definitions are those of optimum-benchmark, which the LLM-Perf leaderboard is measured with. Unlike there,
the times between tokens are those within a run: the pause before the next one is none of them.
"""

from __future__ import annotations

import gc
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from harness.backends.backend import TokenIds
from harness.backends.costing import CostRun, CostShape, PeakMemory
from harness.backends.hf.cuda_graphs import StaticSteps
from harness.backends.hf.decoding_method import GenerateMode
from harness.backends.hf.latency_pass import synchronize
from harness.backends.hf.methods import method_of
from harness.backends.hf.verified_modes import VerifiedModes
from harness.backends.steps.generation_config import generation_config
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.strategy import Strategy
from harness.models.energy import EnergyMeter
from harness.models.energy_meters import energy_meter
from harness.models.load import LoadedModel
from harness.models.placement import peak_mb, reset_peak

SEED = 42
"""Of the prompts' ids, as in optimum-benchmark. Time does not depend on them, but for mixtures of experts."""
_MIB, _MB = 2**20, 10**6


class ModelRuns:
    """The part of `HfBackend` that runs its model for its cost; a `costing.CostedBackend`."""

    _loaded: LoadedModel
    modes: VerifiedModes
    token_ids: TokenIds
    _static_steps: StaticSteps

    def run_model(self, shape: CostShape, new_tokens: int, count: int = 1) -> list[CostRun]:
        """Run a batch some times; the device is idle after."""
        self._static_steps.release()
        strategy = _greedy(shape, new_tokens, self.token_ids)
        mode = self.modes.mode_of(method_of(strategy.effective, strategy.cache), strategy)
        ids = _random_ids(shape, self._loaded.files.vocab_size).to(self._loaded.device)
        return [_run(self._loaded, strategy, ids, mode) for _ in range(count)]

    def peak_memory(self, shape: CostShape) -> PeakMemory:
        """Run a batch once; what earlier batches left in torch's allocator is given back before."""
        placement = self._loaded.placement
        self._static_steps.release()
        gc.collect()
        on_gpu = self._loaded.device.startswith("cuda")
        if on_gpu:
            torch.cuda.empty_cache()
        reset_peak(placement.devices)
        self.run_model(shape, shape.new_tokens)
        peak = peak_mb(placement)
        megabytes = None if peak is None else peak * _MIB / _MB
        if not on_gpu:
            return PeakMemory(None, None, megabytes)
        reserved = used = 0
        for name in placement.devices:
            free, total = torch.cuda.mem_get_info(name)
            reserved, used = reserved + torch.cuda.max_memory_reserved(name), used + total - free
        return PeakMemory(megabytes, placement.ranks * reserved / _MB, placement.ranks * used / _MB)

    def energy_meter(self, *, alone: bool = True) -> EnergyMeter:
        """Open the energy counter of the devices that the model is on."""
        return energy_meter(self._loaded.device, self._loaded.placement.count, alone=alone)


class _Clock(LogitsProcessor):
    """Notes when the logits of each token are there; on a GPU as events, so that nothing waits for it."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._on_gpu = device.startswith("cuda")
        self._moments: list[Any] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores as they are."""
        self.note()
        return scores

    def note(self) -> None:
        """Note a moment."""
        if self._on_gpu:
            moment = torch.cuda.Event(enable_timing=True)
            moment.record(torch.cuda.current_stream(self._device))
            self._moments.append(moment)
            return
        synchronize(self._device)
        self._moments.append(perf_counter())

    def seconds(self) -> list[float]:
        """Return the moments in seconds since the first; the device is idle then."""
        synchronize(self._device)
        first = self._moments[0]
        if self._on_gpu:
            return [first.elapsed_time(moment) / 1e3 for moment in self._moments]
        return [moment - first for moment in self._moments]


@torch.inference_mode()
def _run(loaded: LoadedModel, strategy: Strategy, ids: Tensor, mode: GenerateMode) -> CostRun:
    config = generation_config(strategy, use_cache=mode.use_cache)
    config.min_new_tokens = strategy.max_new_tokens  # as there: EOS is masked until then, each step
    clock = _Clock(loaded.device)
    mask = torch.ones_like(ids)
    synchronize(loaded.device)
    clock.note()
    loaded.model.generate(
        input_ids=ids,
        attention_mask=mask,
        generation_config=config,
        logits_processor=LogitsProcessorList([clock]),
    )
    clock.note()
    _, *logits, end = clock.seconds()
    between = tuple(after - before for before, after in pairwise(logits))
    return CostRun(logits[0], end - logits[0], between)


def _greedy(shape: CostShape, new_tokens: int, ids: TokenIds) -> Strategy:
    effective = effective_decoding(Decoding(name="greedy"))
    return Strategy(effective, new_tokens, SEED, (), ids.eos, ids.pad, 0, shape.cache)


def _random_ids(shape: CostShape, vocabulary: int | None) -> Tensor:
    """Return (batch_size, prompt_tokens) ids of the vocabulary, the same for every model of its size."""
    random = torch.Generator().manual_seed(SEED)
    size = (shape.batch_size, shape.prompt_tokens)
    return torch.randint(0, vocabulary or 2, size, generator=random)
