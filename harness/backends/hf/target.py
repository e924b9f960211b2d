"""A transformers model before it is loaded: what a point's samples depend on, read from small files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.backends.backend import Backend, BatchEstimate, ChatEnd, Request, Target
from harness.backends.chat_end import checkpoint_chat_end
from harness.backends.hf.batch_size import batch_rows, request_cache_bytes
from harness.backends.hf.methods import method_of
from harness.config.guided_fields import amateur_id
from harness.config.point import Model, Point, Quantization
from harness.models.agreement import disagreements
from harness.models.amateur import KEY, check_amateur, locate_amateur
from harness.models.caches import NOTE, PACKAGES, cache_config, check_cache
from harness.models.device import WorkerDevice, check_attention, planned_device, planned_gpus, worker_device
from harness.models.gguf_checkpoint import dequantized_note
from harness.models.lean_imports import import_modeling
from harness.models.locate import locate
from harness.models.memory import BYTES, available_bytes, resolve_dtype, weight_bytes
from harness.models.model_files import ModelFiles
from harness.models.packages import package_version
from harness.models.placement import device_count, gpus, offload_notes
from harness.models.precision import checkpoint_precision, precision
from harness.models.prequantized import stored_note
from harness.models.quantize import check_quantization, packages_of
from harness.models.tensor_parallel import cache_share, check_splittable, rank_count
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.once import Once
from harness.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENGINE_VERSION = 1
"""Raise it when the backend makes other samples, or records them otherwise, than it did before."""

_MISREAD_BY_1 = frozenset({
    "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2", "lfm2_moe", "mamba", "mamba2",
    "minimax", "nemotron_h", "openai-gpt", "qwen3_next", "recurrent_gemma", "reformer", "rwkv", "xlm",
    "xlnet", "xlstm", "zamba", "zamba2",
})  # fmt: skip
"""Model types whose prompts or texts version 1 could misread: what it stored of them is not reused."""

_ENOUGH = 2**50
"""Memory of a device of which nothing is known, in bytes."""

_LIBRARIES = ("torch", "transformers", "bitsandbytes")
"""Libraries whose arithmetic the samples depend on; their versions are read without importing them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HfTarget(Target):
    """A model, its quantization and its cache on a device; see `backends.backend.Target`.

    Attributes:
        ranks: processes that share each layer; 1 where the model is whole.
        cache_share: part of the KV cache that one device has, by estimate.
    """

    model: Model
    quantization: Quantization
    info: ModelFiles
    loaded_tokenizer: PreTrainedTokenizerBase
    ranks: int = 1
    cache_share: float = 1.0
    same_batch_same_bits: ClassVar[bool] = True

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's tokenizer."""
        return self.loaded_tokenizer

    def chat_end(self) -> ChatEnd:
        """Return the chat template's end of turn, where the model's EOS is another token."""
        return checkpoint_chat_end(self.model.name, self.info, self.loaded_tokenizer)

    def amateur(self, name: str, once: Once, key: str = KEY) -> Mapping[str, Any]:
        """Return what identifies a second model; it is located, and its tokenizer compared."""

        def make() -> Mapping[str, Any]:
            files = locate_amateur(name, self.model, key)
            check_amateur(name, self.model, self.loaded_tokenizer, files, key)
            check_quantization(self.quantization, self.device, files)
            return {"id": name, "weights": files.fingerprint}

        return once((key, name, self.model, self.quantization), make)

    def checkpoints(self, second_models: Iterable[str] = ()) -> Sequence[ModelFiles]:
        """Return the model's own, and those of amateurs and drafts."""
        return [self.info, *(locate_amateur(name, self.model) for name in second_models)]

    def shares_batches(self, effective: Mapping[str, Any]) -> bool:
        """Return whether a strategy decodes in one batch with others."""
        return method_of(effective, self.cache).shares_batches

    def estimate(self, requests: Sequence[Request], rows: int | None) -> BatchEstimate:
        """Estimate how requests like these are batched; `rows` is the user's choice, if any."""
        value_bytes = BYTES[resolve_dtype(self.quantization, self.info)]
        if rows is None:
            amateurs = {amateur_id(request.strategy.effective) for request in requests} - {None}
            others = [locate_amateur(str(name), self.model) for name in amateurs]
            others_bytes = sum(weight_bytes(files, self.quantization) or 0 for files in others)
            available = self.available_bytes()
            free = _ENOUGH
            if available is not None:
                weights = (self.weight_bytes or 0) // self.devices + others_bytes
                free = max(0, available // self.devices - weights)
            first = requests[0].strategy
            method = method_of(first.effective, first.cache)
            rows = 1
            if method.batches_requests(first.effective, first.cache):
                rows = batch_rows(requests, self.info, self.device, free, value_bytes, self.cache_share)
        cache = max(request_cache_bytes(request, self.info, value_bytes) for request in requests)
        return BatchEstimate(rows, cache)

    def available_bytes(self) -> int | None:
        """Return the memory that is free on the device, or on all that share the model.

        All of it elsewhere, None where that is unknown.
        """
        if self.elsewhere is not None:
            memory = self.elsewhere.memory
            return None if memory is None else memory * self.devices
        if self.device != "cuda" or self.devices == 1:
            return available_bytes(self.device)
        return sum(map(available_bytes, gpus()[: self.devices]))

    def open(self, progress: Progress) -> Backend:
        """Load the model."""
        if self.ranks > 1:
            # Read when torch is imported: it would warn of collectives that an interruption has cut short.
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
            from harness.backends.hf.shared_backend import SharedBackend

            on_gpus = self.device == "cuda"
            return SharedBackend.open_shared(self.model, self.quantization, progress, self.ranks, on_gpus)
        import_modeling()
        from harness.backends.hf.backend import HfBackend

        return HfBackend.open(self.model, self.quantization, progress, tokenizer=self.loaded_tokenizer)


def hf_target(point: Point, once: Once) -> HfTarget:
    """Locate a point's model and check that it can be run here as requested; nothing is loaded.

    `once` remembers what the points of one plan share.

    Raises:
        ConfigError: the model, device, quantization or cache is not available.
    """
    model, quantization = point.model, point.quantization
    device = planned_device(model.device, once)
    files = once(("files", model), lambda: locate(model))
    ranks = once(
        ("ranks", model, quantization), lambda: _ranks(model, quantization, files, device, planned_gpus(once))
    )
    once(
        ("quantization", quantization, device, model),
        lambda: check_quantization(quantization, device, files),
    )
    once(
        ("attention", model, quantization, device),
        lambda: check_attention(model.attention, device, resolve_dtype(quantization, files)),
    )
    once(("cache", point.cache, device, model), lambda: check_cache(point.cache, device, files))

    def make() -> HfTarget:
        tokenizer = once(("tokenizer", model), lambda: load_tokenizer(model, files))
        cache = cache_config(point.cache, files)
        packages = packages_of(quantization, files.stored, gguf=files.gguf is not None)
        packages += () if cache is None else PACKAGES[cache["backend"]]
        notes = [] if files.stored is None else [stored_note(model.name, files.stored)]
        if files.gguf is not None and files.gguf.quantized:
            notes.append(dequantized_note(model.name, files.gguf, resolve_dtype(quantization, files)))
        notes += [] if cache is None else [NOTE]
        notes += disagreements(files, model.name, tokenizer)
        weights, layered = weight_bytes(files, quantization), device_count(model, device, planned_gpus(once))
        notes += offload_notes(model, device, weights, _free_bytes(layered, worker_device(once)))
        return HfTarget(
            model=model,
            quantization=quantization,
            info=files,
            device=device,
            elsewhere=worker_device(once),
            cache=cache,
            facts={
                "engine": 2 if files.model_type in _MISREAD_BY_1 else ENGINE_VERSION,
                "weights": files.fingerprint,
                "quantization": quantization.model_dump(mode="json", exclude={"name", "vllm", "exported"}),
                "attention": model.attention,
                "device": device,
                # Only what changes sums: with `auto` the same products are computed, each on one device.
                **({"tensor_parallel": ranks} if ranks > 1 else {}),
                "versions": {name: package_version(name) for name in (*_LIBRARIES, *packages)},
            },
            tokenizer_facts=once(("tokenizer facts", model), lambda: tokenizer_fingerprint(model, files)),
            notes=tuple(notes),
            precision=precision(quantization, files),
            checkpoint_precision=checkpoint_precision(files),
            weight_bytes=weights,
            devices=ranks * layered,
            loaded_tokenizer=tokenizer,
            ranks=ranks,
            cache_share=cache_share(files, ranks) if ranks > 1 else 1 / layered,
        )

    return once(("target", model, quantization, point.cache), make)


def _free_bytes(count: int, elsewhere: WorkerDevice | None) -> list[int]:
    """Return the bytes that are free on each of so many GPUs; none where that is unknown."""
    if elsewhere is None:
        return [available_bytes(name) for name in gpus()[:count]]
    return [] if elsewhere.memory is None else [elsewhere.memory] * count


def _ranks(
    model: Model, quantization: Quantization, files: ModelFiles, device: str, count: int | None
) -> int:
    """Return how many ranks share the model, 1 where it is whole; raises where they cannot."""
    if model.devices != "tensor_parallel":
        return 1
    ranks = rank_count(model, device, count)
    check_splittable(model, quantization, files, ranks)
    return ranks
