"""A model without weights, as `models.load.LoadedModel`: what strategies need of it is its config."""

from __future__ import annotations

from typing import Any

import torch

from harness.config.point import Model
from harness.models.load import LoadedModel
from harness.models.locate import ModelFiles
from harness.models.placement import Placement
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.models.weight_progress import quiet_loading


def weightless(model: Model, files: ModelFiles, dtype: str, device: str, **facts: Any) -> LoadedModel:
    """Return a located model with its tokenizer and its architecture, on the meta device.

    Args:
        model: the choice.
        files: where it is.
        dtype: in which the runtime computes what is not quantized, as torch names it.
        device: of the logits.
        facts: about the model in the runtime, stored with its points.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    trust = model.trust_remote_code
    config = AutoConfig.from_pretrained(str(files.folder), trust_remote_code=trust)
    with quiet_loading(), torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    empty.generation_config = GenerationConfig()
    known = {
        "model_id": files.id,
        "revision": files.revision,
        "fingerprint": files.fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(model, files),
        "architecture": type(empty).__name__,
        "parameters": empty.num_parameters(),
        "device": device,
        "dtype": dtype,
        "stored_quantization": None if files.stored is None else str(files.stored),
        "quant_method": None if files.stored is None else files.stored.method,
        "weight_files": len(files.weight_files),
        "context_length": files.context_length,
        "vocab_size": files.vocab_size,
    }
    tokenizer, placement = load_tokenizer(model, files), Placement("single", (device,))
    return LoadedModel(empty, tokenizer, files, device, dtype, known | facts, placement)
