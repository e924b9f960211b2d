"""The backend of transformers models in this process: answers requests with a loaded model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Self

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from harness.backends.backend import Capabilities, Failure, OnToken, ReadAgain, Request, TokenIds, Usage
from harness.backends.drafting import Speculator
from harness.backends.hf.adaptive_batches import AdaptiveBatches, out_of_memory
from harness.backends.hf.amateurs import Amateurs
from harness.backends.hf.batch_size import batch_rows
from harness.backends.hf.cuda_graphs import StaticSteps, captures
from harness.backends.hf.decoding_method import Method, Runtime, Work
from harness.backends.hf.device_memory import (
    free_bytes,
    own_threads,
    rank_out_of_memory,
    request_out_of_memory,
)
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.methods import method_of
from harness.backends.hf.model_runs import ModelRuns
from harness.backends.hf.read_again import read_again
from harness.backends.hf.reference_comparison import ReferenceComparison
from harness.backends.hf.rescore import score_prompt
from harness.backends.hf.speculator import HfSpeculator
from harness.backends.hf.streaming import StreamingRecorder
from harness.backends.hf.verified_modes import VerifiedModes
from harness.backends.steps.recorder import Recorder
from harness.backends.steps.strategy_error import StrategyError
from harness.config.point import Engine, Model, Quantization, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError
from harness.models.amateur import amateur_model
from harness.models.describe import environment
from harness.models.load import LoadedModel, free, load
from harness.models.memory import kv_cache_bytes
from harness.models.placement import peak_mb, reset_peak
from harness.models.tensor_parallel import Rank
from harness.progress import SILENT, Progress, StagesInPercent
from harness.prompts.prompt import Prompt
from harness.store.records import PromptScores, Repetition, Sample


def _no_amateur(name: str) -> LoadedModel:
    raise HarnessError(f"decoding.amateur={name}: this backend was opened without second models")


class HfBackend(ModelRuns):
    """A loaded transformers model that answers requests; a `backends.backend.Backend`.

    Attributes:
        modes: which ways of decoding are right with the model.
    """

    capabilities = Capabilities(
        full_distribution=True,
        shared_noise=True,
        teacher_forcing=True,
        hidden_states=True,
        token_ids=True,
        streaming=True,
    )

    def __init__(self, loaded: LoadedModel, load_amateur: Callable[[str], LoadedModel] = _no_amateur) -> None:
        """Take over a model: reset its generation config, and test how it is decoded right.

        Args:
            loaded: the model.
            load_amateur: loads the model that `decoding.amateur` or `speculation.draft` names.

        Raises:
            HarnessError: no way of decoding is right with it, or its logits are not finite.
        """
        self._loaded = loaded
        self._amateurs = Amateurs(load_amateur)
        self._detokenizer = Detokenizer(loaded.tokenizer)
        own = loaded.model.generation_config
        eos = _as_tuple(own.eos_token_id) or _as_tuple(loaded.tokenizer.eos_token_id)
        self.token_ids = TokenIds(eos, loaded.tokenizer.pad_token_id or 0)
        # Every id is passed explicitly: what is left here would replace a None.
        loaded.model.generation_config = GenerationConfig()
        self.modes = VerifiedModes(loaded, self._detokenizer)
        self._engine = Engine()
        self._static_steps = StaticSteps()
        self._callers_threads = torch.get_num_threads()
        self._start_usage()

    @classmethod
    def open(
        cls,
        model: Model,
        quantization: Quantization,
        progress: Progress,
        rank: Rank | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> Self:
        """Load a model, or the share of a rank; the arguments and what is raised are `models.load.load`'s."""
        on_progress = StagesInPercent(progress)
        loaded = load(model, quantization, on_progress, rank, tokenizer)
        return cls(loaded, lambda name: load(amateur_model(name, model), quantization, on_progress, rank))

    @property
    def loaded(self) -> LoadedModel:
        """The model."""
        return self._loaded

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users of the samples should know."""
        return (*self._loaded.placement.warnings, *self.modes.warnings)

    def configure(self, engine: Engine) -> None:
        """Set threads, batch rows and compilation, and start a new `usage`."""
        self._engine = engine
        torch.set_num_threads(
            own_threads(self._loaded.placement) if engine.threads == "auto" else engine.threads
        )
        self._start_usage()

    def batch_size(self, requests: Sequence[Request]) -> int:
        """Return how many requests like these are decoded at once, by the memory free at `configure`."""
        before = len(self._amateurs)
        for request in requests:
            with suppress(HarnessError):  # of the requests themselves
                self._amateurs.of(request.strategy)
        if len(self._amateurs) > before:
            self._static_steps.release()
            self._free_bytes = free_bytes(self._loaded.placement)
        if self._engine.batch_rows != "auto":
            return min(self._engine.batch_rows, self._largest_batch)
        for strategy in {id(request.strategy): request.strategy for request in requests}.values():
            if not self._method_of(strategy).batches_requests(strategy.effective, strategy.cache):
                return 1
        loaded = self._loaded
        share = loaded.placement.cache_share
        size = batch_rows(requests, loaded.files, loaded.device, self._free_bytes, self._value_bytes, share)
        return min(size, self._largest_batch)

    def generate(self, requests: Sequence[Request], progress: Progress) -> Iterator[Sample | Failure]:
        """Decode requests, those of one method together; yield once all are done.

        A strategy that fails, or of which a single request does not fit into memory, is a Failure for each of
        its requests; the others are not affected. Batches are halved when the device runs out of memory.
        """
        yield from self._answers(requests, progress)

    def streams(self, strategy: Strategy) -> bool:
        """Return whether tokens of a strategy come one by one."""
        return self._method_of(strategy).streams

    def stream(self, request: Request, on_token: OnToken) -> Sample | Failure:
        """Decode one request by itself; `on_token` is called with each token as it comes."""
        recorder = StreamingRecorder(request, self._detokenizer, on_token)
        (answer,) = self._answers([request], SILENT, recorder)
        if recorder.error is not None:
            raise recorder.error
        return answer

    def _answers(
        self, requests: Sequence[Request], progress: Progress, recorder: Recorder | None = None
    ) -> list[Sample | Failure]:
        """Return what `generate` yields; a recorder sees the steps of a single request."""
        by_method: dict[Method, list[int]] = {}
        answers: dict[int, Sample | Failure] = {}
        for index, request in enumerate(requests):
            method = self._method_of(request.strategy)
            try:
                self.modes.check_prompt(request)
                self._amateurs.of(request.strategy)
                self.modes.mode_of(method, request.strategy)
            except HarnessError as error:
                answers[index] = Failure(error)
            else:
                by_method.setdefault(method, []).append(index)
        for method, indices in by_method.items():
            chosen = [requests[index] for index in indices]
            answers |= zip(indices, self._decode(method, chosen, progress, recorder), strict=True)
        return [answers[index] for index in range(len(requests))]

    def usage(self) -> Usage:
        """Return what generating took since `configure`."""
        return Usage(
            tokens=self._work.tokens,
            rows=self._work.rows,
            batch_rows=self._batch_rows,
            captured=captures(self._loaded, self._engine.compile),
            peak_mb=peak_mb(self._loaded.placement),
        )

    def score(self, prompts: Sequence[Prompt]) -> Iterator[PromptScores]:
        """Return how likely each prompt's own tokens are, and their texts."""
        for prompt in prompts:
            texts = self._detokenizer.output_text((), prompt.ids).token_texts
            yield replace(score_prompt(self._loaded, prompt.id, prompt.ids), token=texts)

    def read_again(self, request: Request, generated: Sequence[int]) -> ReadAgain:
        """Return what is recorded of a request's output when it is read in one pass, by itself."""
        return read_again(self._loaded, request, generated)

    def time(self, requests: Sequence[Request], timing: Timing, progress: Progress) -> list[Repetition]:
        """Time requests of one strategy with stock `generate` (`latency_pass`).

        Raises:
            HarnessError: the model misreads batches, and one is asked for.
        """
        self._static_steps.release()
        strategy = requests[0].strategy
        method = self._method_of(strategy)
        self.modes.check_batch_size(method, strategy, timing.batch_size)
        return time_strategy(
            self._loaded,
            requests,
            timing,
            context_length=self._loaded.files.context_length,
            use_cache=self.modes.mode_of(method, strategy).use_cache,
            on_repetition=progress.advance,
            amateur=self._amateurs.get,
        )

    def environment(self) -> dict[str, Any]:
        """Return versions, machine and facts of the model, as in environment.json."""
        found = environment(self._loaded)
        if cache := kv_cache_bytes(self._loaded.files.text_config, 1, self._value_bytes):
            found["model"]["cache_bytes_per_token"] = cache
        return found

    def effective(self, strategy: Strategy) -> dict[str, Any]:
        """Return the settings beside the decoding that a strategy ran with, as in config.yaml."""
        return {
            "eos_token_id": list(strategy.eos_token_ids),
            "pad_token_id": strategy.pad_token_id,
            "padding_side": "left",
            "device": self._loaded.device,
            "dtype": self._loaded.dtype,
            "cache": strategy.cache and dict(strategy.cache),
            "quant_method": self._loaded.facts["quant_method"],
            "model_generation_config": dict(self._loaded.files.generation_config),
        }

    def close(self) -> None:
        """Free the models, and give torch back the threads that the caller had."""
        self._static_steps.release()
        free(self._loaded)
        self._amateurs.close()
        torch.set_num_threads(self._callers_threads)

    @cached_property
    def distributions(self) -> ReferenceComparison:
        """Full distributions along given texts."""
        self._static_steps.release()
        return ReferenceComparison(self._loaded, self._detokenizer)

    @cached_property
    def speculator(self) -> Speculator:
        """Speculative decoding with the model."""
        right = self.modes.tree_is_right
        return HfSpeculator(self._loaded, self._detokenizer, self._amateurs.get, right)

    @property
    def _value_bytes(self) -> int:
        """Bytes a value of the key-value cache."""
        return self._loaded.model.dtype.itemsize

    def _start_usage(self) -> None:
        self._work = Work(0, 0)
        self._batch_rows = 0
        self._largest_batch = sys.maxsize
        self._static_steps.release()
        # Taken once, so that requests like others are batched like them.
        self._free_bytes = free_bytes(self._loaded.placement)
        reset_peak(self._loaded.placement.devices)

    def _method_of(self, strategy: Strategy) -> Method:
        return method_of(strategy.effective, strategy.cache, tree_is_right=self.modes.tree_is_right)

    def _decode(
        self, method: Method, requests: Sequence[Request], progress: Progress, recorder: Recorder | None
    ) -> list[Sample | Failure]:
        """Decode requests of one method; a strategy that fails is left out, and the rest decoded again."""
        mode = self.modes.mode_of(method, requests[0].strategy)
        runtime = Runtime(
            self._loaded,
            self._detokenizer,
            self._static_steps if captures(self._loaded, self._engine.compile) else None,
            progress.advance,
            self._add_work,
            mode,
            self._amateurs.get,
            recorder,
            lambda: self.modes.shared_prefix,
        )
        size = self.batch_size(requests)
        batches = AdaptiveBatches(size)
        failed: dict[int, Failure] = {}
        samples: list[Sample | Failure] = []
        while remaining := [request for request in requests if id(request.strategy) not in failed]:
            try:
                samples = batches.decode(remaining, partial(_decode_batch, method, runtime))
                break
            except StrategyError as error:
                failed[id(error.strategy)] = Failure(self._explained(error, requests))
        self._batch_rows = batches.size
        if batches.size < size:
            self._largest_batch = batches.size
        finished = iter(samples)
        return [failed.get(id(request.strategy)) or next(finished) for request in requests]

    def _add_work(self, work: Work) -> None:
        self._work = Work(self._work.rows + work.rows, self._work.tokens + work.tokens)

    def _explained(self, error: StrategyError, requests: Sequence[Request]) -> Exception:
        """Return why a strategy failed; running out of memory says what was needed."""
        if not out_of_memory(error.cause):
            return error.cause
        same = [request for request in requests if request.strategy is error.strategy]
        explained = request_out_of_memory(self._loaded, same, self._value_bytes)
        explained.__cause__ = error.cause
        return explained


def _decode_batch(method: Method, runtime: Runtime, requests: Sequence[Request]) -> list[Sample | Failure]:
    """Decode one batch; a single request that does not fit into memory is its strategy's failure."""
    try:
        return method.decode(runtime, requests)
    except RuntimeError as error:
        if runtime.static_steps is not None:
            runtime.static_steps.release()
        if out_of_memory(error) and runtime.loaded.placement.ranks > 1:
            # Where one rank halves its batch the others do not.
            raise rank_out_of_memory(runtime.loaded, len(requests)) from error
        if not out_of_memory(error) or len(requests) > 1:
            raise
        raise StrategyError(requests[0].strategy, error) from error


def _as_tuple(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)
