"""Load a model, ready to decode, with the facts about it that are stored; and free it again."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.point import Model, Quantization
from harness.errors import ConfigError, HarnessError, first_line
from harness.garbage import begin_collection
from harness.models.device import check_attention, device_name, resolve_device
from harness.models.gguf_checkpoint import stored_text
from harness.models.gguf_header import GgufHeader
from harness.models.gguf_weights import apply_rope_factors, gguf_arguments, read_once
from harness.models.hub import fetch_weights
from harness.models.lean_imports import import_modeling
from harness.models.locate import locate
from harness.models.memory import resolve_dtype
from harness.models.model_files import ModelFiles
from harness.models.placement import (
    Placement,
    device_map,
    devices_in_words,
    find_placement,
    gpus,
    memory_cures,
    peak_mb,
    reset_peak,
)
from harness.models.prequantized import StoredQuantization
from harness.models.quantize import (
    check_quantization,
    compute_dtype,
    honour_compute_dtype,
    import_bitsandbytes,
    loading_config,
    quantized_modules,
    uses_bitsandbytes,
    weight_tensors,
)
from harness.models.tensor_parallel import Rank, loading_arguments
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.models.torchao import import_torchao
from harness.models.weight_progress import quiet_loading

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OnProgress = Callable[[str, float], None]
"""Called with what is being done and the fraction of it that is done, 0 to 1."""
_MIB = 1024 * 1024


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to decode.

    Attributes:
        model: in eval mode, without gradients; its `generation_config` has token ids and is else neutral.
        tokenizer: pads on the left and has a pad token.
        files: the model's files.
        device: `cuda:N`, `mps` or `cpu`.
        dtype: of what is not quantized, as torch names it.
        facts: what is stored about the model and its loading; plain values only.
    """

    model: Any = field(repr=False)  # a PreTrainedModel that generates; the two have no common type
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    files: ModelFiles
    device: str
    dtype: str
    facts: Mapping[str, Any]
    placement: Placement


def load(
    model: Model,
    quantization: Quantization,
    on_progress: OnProgress | None = None,
    rank: Rank | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> LoadedModel:
    """Find, fetch, load and quantize a model on its device, or its devices.

    Args:
        model: the model to load.
        quantization: of its weights.
        on_progress: called while files are fetched and weights are loaded.
        rank: which of several processes this is, in a process group of torch; a second model is loaded whole
            by each.
        tokenizer: the model's, where `load_tokenizer` has loaded it already.

    Raises:
        ConfigError: the model, device, quantization or attention is not available.
        HarnessError: the weights cannot be loaded or do not fit.
    """
    on_progress = on_progress or (lambda what, fraction: None)
    device = resolve_device(model.device)
    if rank is not None:
        device = rank.device(device)
    elif model.devices == "tensor_parallel":
        raise ConfigError.of(
            "model.devices=tensor_parallel",
            "is for sweeps and harness generate, this runs in one process; use model.devices=auto",
        )
    files = locate(model)
    check_quantization(quantization, device, files)
    dtype = resolve_dtype(quantization, files)
    check_attention(model.attention, device, dtype)
    tokenizer = load_tokenizer(model, files) if tokenizer is None else tokenizer
    _fetch(files, on_progress)
    import_torchao()
    import_modeling()
    from transformers import AutoModelForCausalLM, quantizers  # noqa: F401  imports do not count as loading

    begin_collection()
    stored = files.stored
    reset_peak(gpus() if model.devices == "auto" and device.startswith("cuda") else [device])
    started = time.perf_counter()
    loaded = read_model(
        files.folder, model, quantization, device, dtype, on_progress, stored, files.gguf, rank
    )
    seconds = time.perf_counter() - started
    keep_token_ids_only(loaded, files, tokenizer)
    unpacked = compute_dtype(quantization, device) if quantization.load_in_4bit else dtype
    if stored is not None and stored.compute_dtype is not None:
        unpacked = stored.compute_dtype
    placement = find_placement(loaded, model, device, rank)
    facts = {
        "model_id": files.id,
        "revision": files.revision,
        "fingerprint": files.fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(model, files),
        "architecture": type(loaded).__name__,
        "parameters": loaded.num_parameters(),  # quantized ones as before packing
        "memory_footprint_mb": placement.ranks * footprint_bytes(loaded) / _MIB,
        "load_seconds": seconds,
        "load_peak_mb": peak_mb(placement),
        "device": device,
        "device_name": device_name(device),
        "dtype": dtype,
        "compute_dtype": unpacked,
        "attention": getattr(loaded.config, "_attn_implementation", None),
        "quantized_modules": quantized_modules(loaded),
        "quant_method": None if stored is None else stored.method,
        "stored_quantization": stored_text(files),
        "weight_files": len(files.weight_files),
        "context_length": files.context_length,
        "vocab_size": files.vocab_size,
        **placement.facts(),
    }
    on_progress("loaded", 1.0)
    return LoadedModel(loaded, tokenizer, files, device, dtype, facts, placement)


def fetch(model: Model, on_progress: OnProgress) -> None:
    """Fetch the weights of a model from the hub, where they are not here yet."""
    _fetch(locate(model), on_progress)


def _fetch(files: ModelFiles, on_progress: OnProgress) -> None:
    if files.revision is not None:
        fetch_weights(
            files.id,
            files.revision,
            files.weight_files,
            lambda name, fraction: on_progress(f"fetching {name}", fraction),
        )


def free(loaded: LoadedModel) -> None:
    """Free the memory of a model, even if there are references to it; it cannot be used any more."""
    import torch

    for module in loaded.model.modules():
        module._parameters.clear()
        module._buffers.clear()
        module.__dict__.pop("_hf_hook", None)  # has what accelerate offloaded
        for holder in ("state", "quant_state"):
            if holder in module.__dict__:
                module.__dict__[holder] = None
    gc.collect()
    if loaded.device.startswith("cuda"):
        torch.cuda.empty_cache()  # of all GPUs
    elif loaded.device == "mps":
        torch.mps.empty_cache()


def read_model(
    folder: Path,
    model: Model,
    quantization: Quantization,
    device: str,
    dtype: str,
    on_progress: OnProgress,
    stored: StoredQuantization | None = None,
    gguf: GgufHeader | None = None,
    rank: Rank | None = None,
) -> PreTrainedModel:
    """Read the weights of a local folder onto a device, in eval mode, without gradients.

    `stored` is how the checkpoint is quantized already, `gguf` the GGUF file of the folder that is meant;
    `rank` says whose share is read with `model.devices=tensor_parallel`.

    Raises:
        ConfigError, HarnessError: as `load`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if uses_bitsandbytes(quantization, stored):
        import_bitsandbytes()
    # An adapter beside the weights (adapter_model.safetensors) is not one of them.
    pickled = not any(folder.glob("model*.safetensors*")) and model.allow_pickle
    arguments: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "use_safetensors": not pickled,
        "trust_remote_code": model.trust_remote_code,
        "output_loading_info": True,
    }
    if rank is not None and model.devices == "tensor_parallel":
        arguments |= loading_arguments(rank)
    else:
        arguments["device_map"], arguments["max_memory"] = device_map(model, device)
    if model.attention != "auto":
        arguments["attn_implementation"] = model.attention
    if (config := loading_config(quantization, device, stored)) is not None:
        arguments["quantization_config"] = config
    how: Any = nullcontext()
    if gguf is not None:
        arguments |= gguf_arguments(gguf)
        how = read_once(lambda fraction: on_progress("dequantizing weights", fraction))
    try:
        with quiet_loading(lambda fraction: on_progress("loading weights", fraction)), how:
            found: Any = AutoModelForCausalLM.from_pretrained(str(folder), **arguments)
            loaded, info = found
            if gguf is not None:
                apply_rope_factors(loaded, gguf)
    except Exception as error:
        raise _load_error(error, model, quantization, device) from error
    # A weight of another shape is an error of `from_pretrained` itself.
    if missing := sorted(info["missing_keys"]):
        raise ConfigError.of(
            "model.id",
            f"{model.id}: the checkpoint is not a complete causal language model, {len(missing)} weights are "
            f"missing (the first: {missing[0]}); choose another model",
        )
    loaded.eval().requires_grad_(False)
    if uses_bitsandbytes(quantization, stored) and device == "cpu":
        honour_compute_dtype(loaded)
    if quantization.torchao is not None and not quantized_modules(loaded):
        raise ConfigError.of(
            "quantization", f"{quantization.name} finds no linear layer in {model.id}; use bnb_nf4"
        )
    return loaded


def footprint_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of the weights, including scales and code books of quantized ones."""
    return sum(tensor.numel() * tensor.element_size() for tensor in weight_tensors(model))


def keep_token_ids_only(
    model: PreTrainedModel, files: ModelFiles, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Replace the model's generation config, so that its defaults cannot leak into a strategy."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(files.eos_token_ids) or tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _in_4_bits(quantization: Quantization) -> bool:
    return quantization.load_in_4bit or quantization.torchao == "int4_weight_only"


def _load_error(error: Exception, model: Model, quantization: Quantization, device: str) -> HarnessError:
    """Return the error of one line that a failed load is reported as."""
    import torch

    if isinstance(error, HarnessError):
        return error
    line = first_line(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return HarnessError(
            f"model.id: {model.id} does not fit into the memory of {devices_in_words(model, device)}; "
            f"{memory_cures(model.devices, _in_4_bits(quantization), device)}"
        )
    if "dispatched on the CPU or the disk" in str(error):
        cure = "use model.devices=single where it fits one GPU, more GPUs, or quantization=none"
        problem = f"the GPUs are too small for it, and {quantization.name} cannot lie on the CPU"
        return ConfigError.of("model.devices=auto", f"{problem}; {cure}")
    if "ignore_mismatched_sizes" in str(error):
        problem = f"{model.id}: the weights have other shapes than its config.json says; get its files again"
        return ConfigError.of("model.id", problem)
    if line.startswith(("Validation error", "Class validation error")):
        problem = f"{model.id}: its config.json has a wrong value: {line}; correct it, or fetch it again"
        return ConfigError.of("model.id", problem)
    text = str(error) if isinstance(error, ValueError) else ""
    if "does not recognize this architecture" in text:
        problem = f"{model.id}: the installed transformers does not know its architecture: {line}"
        return ConfigError.of("model.id", problem)
    if "Unrecognized configuration class" in text:
        problem = f"{model.id} is not a causal language model; choose a decoder-only model"
        return ConfigError.of("model.id", problem)
    if "attn_implementation" in text or "attention" in text.partition("\n")[0].lower():
        problem = f"{model.attention!r} is not supported by {model.id}; use auto or eager: {line}"
        return ConfigError.of("model.attention", problem)
    return HarnessError(f"model.id: {model.id} cannot be loaded: {line}")
