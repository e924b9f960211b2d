"""Rules on `model.devices`: what a model that lies on several devices cannot be combined with."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.point import Backend, Engine, Model, Quantization
from harness.errors import Mistake

SMALLEST = 2
"""GPUs that can share a model, at the least."""


def device_rules(model: Model) -> Iterator[Mistake]:
    """Yield what is wrong with the devices themselves."""
    size = model.tensor_parallel_size
    key = f"model.devices={model.devices}"
    if size is not None and model.devices != "tensor_parallel":
        cure = "add model.devices=tensor_parallel, or leave it out"
        yield Mistake(f"model.tensor_parallel_size={size}", f"no effect with {key}; {cure}")
    elif size is not None and size < SMALLEST:
        message = "one GPU shares nothing; use 2 or more, or model.devices=single"
        yield Mistake(f"model.tensor_parallel_size={size}", message)
    if model.devices != "single" and ":" in model.device:
        number = model.device.partition(":")[2]
        cure = f"use model.devices=single, or model.device=auto with CUDA_VISIBLE_DEVICES={number},..."
        yield Mistake(f"model.device={model.device}", f"names one GPU, and {key} takes all visible; {cure}")


def not_with_vllm(model: Model, backend: Backend) -> Iterator[Mistake]:
    """Yield devices that vLLM chooses itself."""
    if backend.kind == "vllm" and model.devices != "single":
        count = model.tensor_parallel_size or SMALLEST
        cure = f"use model.devices=single backend.tensor_parallel_size={count}"
        message = f"no effect with backend={backend.name}, which splits models itself; {cure}"
        yield Mistake(f"model.devices={model.devices}", message)


def split_rules(model: Model, quantization: Quantization) -> Iterator[Mistake]:
    """Yield a quantization whose weights cannot be split over GPUs."""
    if model.devices != "tensor_parallel":
        return
    if quantization.load_in_4bit or quantization.load_in_8bit:
        library = "bitsandbytes packs a weight as one block, which"
    elif quantization.torchao is not None:
        library = "torchao's packed weights are tensors of their own, which"
    else:
        return
    cure = "use model.devices=auto or single with it, or quantization=bf16"
    message = f"{library} model.devices=tensor_parallel cannot split; {cure}"
    yield Mistake(f"quantization={quantization.name}", message)


def without_graphs(model: Model, engine: Engine) -> Iterator[Mistake]:
    """Yield CUDA graphs where a model lies on several devices."""
    if engine.compile == "on" and model.devices != "single":
        message = f"a step of model.devices={model.devices} cannot be captured as one CUDA graph; use auto"
        yield Mistake("engine.compile=on", message)
