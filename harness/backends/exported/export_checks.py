"""What an exported graph cannot run of a point, known before it is loaded: one line each, with the cure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.effective import acts, effective_decoding
from harness.config.point import Point
from harness.errors import Mistake
from harness.models.memory import has_full_attention, resolve_dtype
from harness.models.model_files import ModelFiles

_HIDDEN_STATES = ("penalty_alpha", "dola_layers")
"""Fields of strategies that read hidden states, which the graph does not return."""


def export_mistakes(point: Point, files: ModelFiles) -> Iterator[Mistake]:
    """Yield what an exported graph cannot run of a point as it is requested."""
    backend, model, quantization = point.backend, point.model, point.quantization
    named = f"backend={backend.name}"
    effective = effective_decoding(point.decoding)
    decoding = f"decoding={point.decoding.name}"
    if acts(effective, *_HIDDEN_STATES):
        yield Mistake(decoding, f"reads hidden states, which {named} does not have; use backend=hf")
    if acts(effective, "amateur"):
        yield Mistake(decoding, f"reads a second model, which {named} does not have; use backend=hf")
    key = f"quantization={quantization.name}"
    cure = "quantization=fp32" + ("" if backend.exported else " or exported_int8")
    if quantization.load_in_4bit or quantization.load_in_8bit or quantization.torchao is not None:
        yield Mistake(key, f"is of transformers; use {cure}, or backend=hf")
    elif quantization.vllm is not None:
        yield Mistake(key, f"is of vLLM; use {cure}, or backend=vllm")
    elif backend.exported is not None and quantization.exported is not None:
        message = "no effect on a graph that is exported already (backend.exported); use quantization=fp32"
        yield Mistake(key, message)
    elif files.gguf is not None:
        problem = f"{files.id} is a GGUF file, which is not exported"
        yield Mistake("model.id", f"{problem}; use backend=hf, or the checkpoint that it was made from")
    elif files.stored is not None:
        problem = f"{files.id} is stored quantized ({files.stored}), which is not exported"
        yield Mistake("model.id", f"{problem}; use backend=hf, or the checkpoint that it was made from")
    elif quantization.exported is None and (dtype := resolve_dtype(quantization, files)) != "float32":
        yield Mistake(key, f"is {dtype}, and {named} computes in float32; use {cure}")
    if not has_full_attention(files.text_config):
        problem = "has layers with a sliding window, or without attention, whose cache is not exported"
        yield Mistake("model.id", f"{files.id} {problem}; use backend=hf")
    if point.cache.quantized:
        message = "is a cache of transformers; use cache=default, or backend=hf"
        yield Mistake(f"cache={point.cache.name}", message)
    if model.attention != "auto":
        message = f"no effect with {named}, whose graph has its own; use model.attention=auto"
        yield Mistake(f"model.attention={model.attention}", message)
    if model.device not in ("auto", "cpu"):
        yield Mistake(f"model.device={model.device}", f"{named} runs on the CPU; use model.device=cpu")
    if model.devices != "single":
        cure = "use model.devices=single, or backend=hf"
        yield Mistake(f"model.devices={model.devices}", f"{named} runs on one CPU; {cure}")
    if point.engine.compile == "on":
        message = f"no effect with {named}, whose graph is compiled; use engine.compile=auto"
        yield Mistake("engine.compile=on", message)
