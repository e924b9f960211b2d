"""A model in vLLM before it is loaded: what a point's samples depend on, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from harness.backends.backend import Backend, BatchEstimate, ChatEnd, Request, Target
from harness.backends.chat_end import checkpoint_chat_end
from harness.backends.vllm.limited_files import MOST_ROWS, LimitedFiles
from harness.backends.vllm.vllm_checks import vllm_mistakes
from harness.backends.vllm.vllm_install import Installed, installed
from harness.config.point import Backend as BackendChoice
from harness.config.point import Model, Point, Quantization
from harness.errors import ConfigError
from harness.models.agreement import disagreements
from harness.models.device import planned_device, worker_device
from harness.models.locate import locate
from harness.models.memory import BYTES, available_bytes, kv_cache_bytes, resolve_dtype, weight_bytes
from harness.models.model_files import ModelFiles
from harness.models.packages import package_version
from harness.models.prequantized import StoredQuantization
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.once import Once
from harness.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1
"""Raise it when the backend makes other samples, or records them otherwise, than it did before."""


@dataclass(frozen=True, eq=False, kw_only=True)
class VllmTarget(Target):
    """A model and its quantization in vLLM; see `backends.backend.Target`."""

    model: Model
    quantization: Quantization
    backend: BackendChoice
    found: Installed
    info: LimitedFiles
    loaded_tokenizer: PreTrainedTokenizerBase

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's tokenizer."""
        return self.loaded_tokenizer

    def chat_end(self) -> ChatEnd:
        """Return the chat template's end of turn, where the model's EOS is another token."""
        return checkpoint_chat_end(self.model.name, self.info, self.loaded_tokenizer)

    def checkpoints(self, second_models: Iterable[str] = ()) -> Sequence[ModelFiles]:
        """Return the model's own."""
        return [self.info]

    def shares_batches(self, effective: Mapping[str, Any]) -> bool:
        """Return True: every request is a row by itself."""
        return True

    def estimate(self, requests: Sequence[Request], rows: int | None) -> BatchEstimate:
        """Estimate how requests like these are batched; `rows` is the user's choice, if any."""
        value_bytes = BYTES[resolve_dtype(self.quantization, self.info)]
        longest = max(len(request.prompt.ids) + request.strategy.max_new_tokens for request in requests)
        most = self.backend.max_num_seqs or MOST_ROWS
        return BatchEstimate(min(most, rows or most), kv_cache_bytes(self.info.config, longest, value_bytes))

    def available_bytes(self) -> int | None:
        """Return the memory that is free on the device; all of it elsewhere, None where it is unknown."""
        return available_bytes(self.device) if self.elsewhere is None else self.elsewhere.memory

    def open(self, progress: Progress) -> Backend:
        """Load the model into an engine."""
        from harness.backends.vllm.backend import VllmBackend

        return VllmBackend.open(self.model, self.quantization, self.backend, self.info, self.device, progress)


def vllm_target(point: Point, once: Once) -> VllmTarget:
    """Locate a point's model and check that vLLM can run the point; nothing is loaded.

    `once` remembers what the points of one plan share.

    Raises:
        ConfigError: vLLM is not installed, or cannot run it as requested.
    """
    model, quantization, backend = point.model, point.quantization, point.backend
    found = once("vllm", installed)
    device = planned_device(model.device, once)
    files = once(("files", model), lambda: locate(model))
    if mistakes := list(vllm_mistakes(point, files, found, device)):
        raise ConfigError(mistakes)

    def make() -> VllmTarget:
        tokenizer = once(("tokenizer", model), lambda: load_tokenizer(model, files))
        own = {one.name: getattr(files, one.name) for one in fields(files)}
        info = LimitedFiles(**own, limit=backend.max_model_len)
        versions = {name: package_version(name) for name in ("torch", "transformers")}
        return VllmTarget(
            model=model,
            quantization=quantization,
            backend=backend,
            found=found,
            info=info,
            device=device,
            elsewhere=worker_device(once),
            cache=None,
            facts={
                "backend": "vllm",
                "engine": VERSION,
                "native": backend.native,
                "tensor_parallel_size": backend.tensor_parallel_size,
                "weights": files.fingerprint,
                "quantization": quantization.model_dump(mode="json", include={"dtype", "vllm"}),
                "device": device,
                "versions": versions | {"vllm": found.version},
            },
            tokenizer_facts=once(("tokenizer facts", model), lambda: tokenizer_fingerprint(model, files)),
            notes=(*_notes(point, files.stored), *disagreements(files, model.name, tokenizer)),
            # Drift needs distributions along given texts, which vLLM does not return.
            precision=None,
            checkpoint_precision=None,
            weight_bytes=None if quantization.vllm else weight_bytes(files, quantization),
            loaded_tokenizer=tokenizer,
        )

    return once(("vllm target", model, quantization, backend), make)


def _notes(point: Point, stored: StoredQuantization | None) -> list[str]:
    notes = []
    if stored is not None:
        notes.append(f"{point.model.name}: the checkpoint is already quantized ({stored}) and runs as it is")
    if point.backend.native:
        problem = "its random numbers are its own, so samples are not paired with other points"
        notes.append(f"backend.native=true: vLLM samples by itself: {problem}, and some columns stay empty")
    elif point.backend.tensor_parallel_size > 1:
        gpus = point.backend.tensor_parallel_size
        problem = (
            "what strategies make of the probabilities is not recorded, vLLM's workers being other processes"
        )
        notes.append(f"backend.tensor_parallel_size={gpus}: {problem}")
    return notes
