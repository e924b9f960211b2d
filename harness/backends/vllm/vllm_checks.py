"""What of a point vLLM cannot run, known before anything is loaded: one line each, with the cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.backends.vllm.vllm_install import Installed
from harness.config.effective import NEUTRAL, acts, effective_decoding, searches
from harness.config.guided_fields import is_guided
from harness.config.point import Point, Quantization
from harness.errors import Mistake
from harness.models.locate import ModelFiles

NATIVE = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "logit_bias",
)  # fmt: skip
"""The fields that vLLM's own sampler has, under the same names and of the same meaning."""
_ON_LOAD = ("fp8", "bitsandbytes")
"""Quantizations that vLLM makes of plain weights, on GPUs; others are those of a checkpoint."""


def not_native(effective: Mapping[str, Any]) -> list[str]:
    """Return the fields that act in a strategy and that vLLM's own sampler does not have."""
    return [name for name in NEUTRAL if acts(effective, name) and name not in NATIVE]


def vllm_mistakes(point: Point, files: ModelFiles, found: Installed, device: str) -> Iterator[Mistake]:
    """Yield what vLLM cannot run of a point as it is requested."""
    yield from _decoding(point)
    yield from _quantization(point.quantization, files, found)
    if point.cache.quantized:
        message = "is a cache of transformers; use cache=default, or backend=hf"
        yield Mistake(f"cache={point.cache.name}", message)
    if point.model.attention != "auto":
        message = "no effect with backend=vllm, which has its own; use model.attention=auto"
        yield Mistake(f"model.attention={point.model.attention}", message)
    if point.engine.compile == "on":
        cure = "use engine.compile=auto, and backend.enforce_eager=false"
        yield Mistake("engine.compile=on", f"no effect with backend=vllm, which captures by itself; {cure}")
    if device != found.device:
        problem = f"this vLLM ({found.version}) runs on {found.device}"
        cure = f"use model.device={found.device}, or backend=hf"
        yield Mistake(f"model.device={point.model.device}", f"is {device} here, and {problem}; {cure}")
    if point.model.device.startswith("cuda:") and point.model.device != "cuda:0":
        number = point.model.device.partition(":")[2]
        cure = f"use model.device=cuda, in an environment with CUDA_VISIBLE_DEVICES={number}"
        yield Mistake(f"model.device={point.model.device}", f"vLLM takes the first GPU that it sees; {cure}")
    longest, context = point.backend.max_model_len, files.context_length
    if longest is not None and context is not None and longest > context:
        message = f"{point.model.name} has a context of {context} tokens; take at most that many"
        yield Mistake(f"backend.max_model_len={longest}", message)


def _decoding(point: Point) -> Iterator[Mistake]:
    key, effective = f"decoding={point.decoding.name}", effective_decoding(point.decoding)
    loop = None
    if searches(effective):
        loop = "several continuations at a time"
    elif is_guided(effective):
        loop = "a second distribution at each step"
    if loop is not None:
        yield Mistake(key, f"needs {loop}, which backend=vllm does not have; use backend=hf")
    elif point.backend.native and (names := not_native(effective)):
        lacks = f"vLLM's own sampler has no {' and no '.join(names)}"
        yield Mistake(key, f"{lacks}; use backend.native=false")


def _quantization(quantization: Quantization, files: ModelFiles, found: Installed) -> Iterator[Mistake]:
    key, method, stored = f"quantization={quantization.name}", quantization.vllm, files.stored
    # What can be made of these weights by the vLLM that is here.
    cure = "use quantization=none" if stored or found.device == "cpu" else "use quantization=vllm_fp8"
    if quantization.load_in_4bit or quantization.load_in_8bit or quantization.torchao is not None:
        yield Mistake(key, f"is of transformers; {cure}, or backend=hf")
    if quantization.exported is not None:
        yield Mistake(key, f"is of exported graphs; {cure}, or backend=onnx")
    if method is None:
        return
    if found.quantizations and method not in found.quantizations:
        yield Mistake(key, f"this vLLM ({found.version}) does not have {method}; {cure}")
    elif method in _ON_LOAD and found.device == "cpu":
        yield Mistake(key, f"needs a GPU, and this vLLM runs on the CPU; {cure}")
    elif method in _ON_LOAD and stored is not None and stored.method != method:
        yield Mistake(key, f"{files.id} is already quantized ({stored}); {cure}")
    elif method not in _ON_LOAD and (stored is None or stored.method != method):
        how = "not quantized" if stored is None else f"quantized with {stored}"
        yield Mistake(key, f"{files.id} is {how}, and {method} is not made on load; {cure}")
