"""Models of real shapes for the GPU's benchmark: random weights, made on the device itself, in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.backends.hf.target import HfTarget
from harness.config.point import Model, Quantization
from harness.models.load import LoadedModel
from harness.models.memory import weight_bytes
from harness.models.model_files import ModelFiles
from harness.models.placement import Placement
from harness.models.quantize import (
    bitsandbytes_config,
    honour_compute_dtype,
    import_bitsandbytes,
    quantized_modules,
    weight_tensors,
)
from harness.models.weights import Tensor
from tests.benchmarks.shapes import tokenizer_of, with_trained_entropy

BF16 = Quantization(name="bf16", dtype="bfloat16")
NF4 = Quantization(name="bnb_nf4", dtype="bfloat16", load_in_4bit=True, bnb_4bit_quant_type="nf4")


@dataclass(frozen=True)
class Shape:
    """A model to be made: a transformers architecture, its config's values, and how its weights are kept."""

    name: str
    model_type: str
    values: Mapping[str, int] = field(repr=False)
    quantization: Quantization = BF16

    def tiny(self) -> Shape:
        """Return the shape in small: two layers, which a CPU decodes at once."""
        small = {
            "vocab_size": 2000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2,
        }  # fmt: skip
        return replace(self, values=self.values | small, name=f"tiny {self.name}")


_LLAMA_7B = {
    "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip
_QWEN2_HALF_BILLION = {
    "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
SHAPES = {
    "7b": Shape("7B bf16", "llama", _LLAMA_7B),
    "0.5b": Shape("0.5B bf16", "qwen2", _QWEN2_HALF_BILLION),
    "7b-nf4": Shape("7B nf4", "llama", _LLAMA_7B, NF4),
}


def make(shape: Shape, device: str) -> LoadedModel:
    """Return a model with random weights on a device, as if it had been loaded from a checkpoint.

    Its entropy is that of a trained model (`shapes.NATS`); the embeddings are not tied to the head, which is
    scaled. 4-bit weights are quantized layer by layer where they are.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = AutoConfig.for_model(shape.model_type, **shape.values, tie_word_embeddings=False)
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.config.architectures = [type(model).__name__]
    tensors = tuple(Tensor(name, "BF16", tuple(one.shape)) for name, one in model.named_parameters())
    files = ModelFiles(
        id=shape.name,
        folder=Path(shape.name),
        revision=None,
        config={**config.to_dict(), "dtype": "bfloat16"},
        weight_files=(),
        pickled=False,
        tensors=tensors,
        has_remote_code=False,
    )
    if shape.quantization.load_in_4bit:
        quantize_4bit(model, shape.quantization, device)
    with_trained_entropy(model)
    facts = {
        "architecture": type(model).__name__,
        "quantized_modules": quantized_modules(model),
        "quant_method": None,
    }
    placement = Placement("single", (device,))
    tokenizer = tokenizer_of(shape.values["vocab_size"])
    return LoadedModel(model, tokenizer, files, device, "bfloat16", facts, placement)


def quantize_4bit(model: Any, quantization: Quantization, device: str) -> None:
    """Replace the linear layers, except the head, with bitsandbytes' 4-bit ones, as loading them would."""
    layers = import_bitsandbytes().nn
    settings: Any = bitsandbytes_config(quantization, device)
    linear = [(name, one) for name, one in model.named_modules() if type(one) is nn.Linear]
    for name, dense in linear:
        if dense is model.get_output_embeddings():
            continue
        packed = layers.Linear4bit(
            dense.in_features, dense.out_features, bias=False, compute_dtype=settings.bnb_4bit_compute_dtype,
            device="meta",
        )  # fmt: skip
        packed.bias = dense.bias
        packed.weight = layers.Params4bit(
            dense.weight.data,
            requires_grad=False,
            compress_statistics=settings.bnb_4bit_use_double_quant,
            quant_type=settings.bnb_4bit_quant_type,
            module=packed,
        ).to(device)
        dense.weight = None
        model.set_submodule(name, packed)
    model.config.quantization_config = settings
    if device == "cpu":
        honour_compute_dtype(model)


def target_of(loaded: LoadedModel, quantization: Quantization) -> HfTarget:
    """Return the model as a plan knows it: what `harness plan` estimates, it estimates."""
    return HfTarget(
        model=Model(name=loaded.files.id, id=loaded.files.id),
        quantization=quantization,
        info=loaded.files,
        device=loaded.device.partition(":")[0],
        facts={},
        tokenizer_facts=None,
        cache=None,
        notes=(),
        precision=None,
        checkpoint_precision=None,
        weight_bytes=weight_bytes(loaded.files, quantization),
        loaded_tokenizer=loaded.tokenizer,
    )


def bytes_read(loaded: LoadedModel) -> int:
    """Return the bytes of weights that a decode step reads: of the embeddings it reads only a row a text."""
    embeddings = loaded.model.get_input_embeddings().weight
    every = sum(one.numel() * one.element_size() for one in weight_tensors(loaded.model))
    return every - embeddings.numel() * embeddings.element_size()
