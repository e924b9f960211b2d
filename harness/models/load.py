"""Load a model: quietly, ready to decode, with the facts that are worth keeping; and free it again."""

from __future__ import annotations

import gc
import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.point import Model, Quantization
from harness.errors import ConfigError, HarnessError
from harness.models.device import device_name, resolve_device
from harness.models.hub import fetch_weights
from harness.models.locate import ModelFiles, locate
from harness.models.memory import peak_memory_mb, reset_peak_memory
from harness.models.prequantized import Stored
from harness.models.quantize import (
    check_quantization,
    compute_dtype,
    held_tensors,
    honour_compute_dtype,
    import_bitsandbytes,
    loading_config,
    quantized_modules,
    uses_bitsandbytes,
)
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.models.torchao import import_torchao

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[str, float], None]
ATTENTIONS = ("auto", "eager", "sdpa", "flash_attention_2")
_MIB = 1024 * 1024


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to decode.

    Attributes:
        model: in eval mode, without gradients; its `generation_config` is neutral but for token ids.
        tokenizer: pads on the left and has a pad token.
        files: what was located.
        device: `cuda:N`, `mps` or `cpu`.
        dtype: of what is not quantized, as torch names it.
        files_generation_config: the model's own generation_config.json, for the log.
        facts: what is told of the load; plain values only.
    """

    model: Any = field(repr=False)  # a PreTrainedModel that generates; the two have no common type
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    files: ModelFiles
    device: str
    dtype: str
    files_generation_config: Mapping[str, Any] = field(repr=False)
    facts: Mapping[str, Any]


def load(model: Model, quantization: Quantization, on_progress: Progress | None = None) -> LoadedModel:
    """Find, fetch, load and quantize a model on its device.

    Args:
        model: which one.
        quantization: how its weights are held.
        on_progress: called with what is being done and the fraction of it that is done, 0 to 1.

    Raises:
        ConfigError: the model, device, quantization or attention asked for cannot be had.
        HarnessError: the weights cannot be loaded or do not fit.
    """
    tell = on_progress or (lambda stage, fraction: None)
    device = resolve_device(model.device)
    files = locate(model)
    check_quantization(quantization, device, files)
    dtype = resolve_dtype(quantization, files)
    check_attention(model.attention, device, dtype)
    tokenizer = load_tokenizer(model, files)
    if files.revision is not None:
        fetch_weights(
            files.id, files.revision, files.weight_files, lambda name, part: tell(f"fetching {name}", part)
        )
    import_torchao()
    from transformers import AutoModelForCausalLM, quantizers  # noqa: F401  importing is no part of loading

    stored = files.stored
    reset_peak_memory(device)
    started = time.perf_counter()
    loaded = read_model(files.folder, model, quantization, device, dtype, tell, stored)
    seconds = time.perf_counter() - started
    _keep_token_ids_only(loaded, files, tokenizer)
    facts = {
        "model_id": files.id,
        "revision": files.revision,
        "fingerprint": files.fingerprint(),
        "tokenizer_fingerprint": tokenizer_fingerprint(model, files),
        "architecture": type(loaded).__name__,
        "parameters": count_parameters(loaded),
        "memory_footprint_mb": footprint_bytes(loaded) / _MIB,
        "load_seconds": seconds,
        "load_peak_mb": peak_memory_mb(device),
        "device": device,
        "device_name": device_name(device),
        "dtype": dtype,
        "compute_dtype": _compute_dtype(quantization, device, dtype, stored),
        "attention": getattr(loaded.config, "_attn_implementation", None),
        "quantized_modules": quantized_modules(loaded),
        "quant_method": None if stored is None else stored.method,
        "stored_quantization": None if stored is None else str(stored),
        "weight_files": len(files.weight_files),
        "context_length": files.context_length,
        "vocab_size": files.vocab_size,
    }
    tell("loaded", 1.0)
    return LoadedModel(loaded, tokenizer, files, device, dtype, files.generation_config, facts)


def free(loaded: LoadedModel) -> None:
    """Give back the memory of a model, whoever still holds it; it cannot be used any more."""
    import torch

    for module in loaded.model.modules():
        module._parameters.clear()
        module._buffers.clear()
        for holder in ("state", "quant_state"):
            if holder in module.__dict__:
                module.__dict__[holder] = None
    gc.collect()
    if loaded.device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif loaded.device == "mps":
        torch.mps.empty_cache()


def read_model(
    folder: Path,
    model: Model,
    quantization: Quantization,
    device: str,
    dtype: str,
    tell: Progress,
    stored: Stored | None = None,
) -> PreTrainedModel:
    """Read the weights of a local folder onto a device, in eval mode, without gradients.

    `stored` tells how the checkpoint is quantized already, if it is.

    Raises:
        ConfigError, HarnessError: as `load`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if uses_bitsandbytes(quantization, stored):
        import_bitsandbytes()
    pickled = not any(folder.glob("*.safetensors")) and model.allow_pickle
    arguments: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "device_map": {"": device},
        "use_safetensors": not pickled,
        "trust_remote_code": model.trust_remote_code,
        "output_loading_info": True,
    }
    if model.attention != "auto":
        arguments["attn_implementation"] = model.attention
    if (config := loading_config(quantization, device, stored)) is not None:
        arguments["quantization_config"] = config
    try:
        with quiet(lambda part: tell("loading weights", part)):
            found: Any = AutoModelForCausalLM.from_pretrained(str(folder), **arguments)
    except Exception as error:
        raise _told(error, model, device) from error
    loaded, info = found
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(entry[0]) for entry in info.get("mismatched_keys", ()))
    if missing or mismatched:
        first = (missing + mismatched)[0]
        raise ConfigError.of(
            "model.id",
            f"{model.id}: the checkpoint is not a whole causal language model, {len(missing + mismatched)} "
            f"weights are missing or of another shape (the first: {first})",
        )
    loaded.eval()
    loaded.requires_grad_(False)
    if uses_bitsandbytes(quantization, stored) and device == "cpu":
        honour_compute_dtype(loaded)
    if quantization.torchao is not None and not quantized_modules(loaded):
        raise ConfigError.of(
            "quantization", f"{quantization.name} finds no linear layer in {model.id}; use bnb_nf4"
        )
    return loaded


def _compute_dtype(quantization: Quantization, device: str, dtype: str, stored: Stored | None) -> str:
    if stored is not None and stored.compute_dtype is not None:
        return stored.compute_dtype
    return compute_dtype(quantization, device) if quantization.load_in_4bit else dtype


def resolve_dtype(quantization: Quantization, files: ModelFiles) -> str:
    """The dtype of what is not quantized: as asked, else the checkpoint's, float32 when it does not say."""
    if quantization.dtype != "checkpoint":
        return quantization.dtype
    stored = files.checkpoint_dtype
    return stored if stored in ("float32", "bfloat16", "float16") else "float32"


def check_attention(attention: str, device: str, dtype: str) -> None:
    """Refuse an attention implementation that is unknown or cannot run here.

    Raises:
        ConfigError: says which can be used.
    """
    key = "model.attention"
    if attention not in ATTENTIONS:
        raise ConfigError.of(key, f"{attention!r} is not known; there are: {', '.join(ATTENTIONS)}")
    if attention != "flash_attention_2":
        return
    if not device.startswith("cuda"):
        raise ConfigError.of(
            key, f"flash_attention_2 needs a CUDA device, this is {device}; use sdpa or eager"
        )
    if importlib.util.find_spec("flash_attn") is None:
        raise ConfigError.of(
            key, "flash_attention_2 needs the package flash-attn, which is not installed; use sdpa"
        )
    if dtype == "float32":
        raise ConfigError.of(
            key, "flash_attention_2 runs in half precision only; set quantization=bf16, or use sdpa"
        )


def count_parameters(model: PreTrainedModel) -> int:
    """The model's parameters, tied ones once, quantized ones in their original number."""
    total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is None:
            total += parameter.numel()
        else:
            rows, columns = state.shape
            total += rows * columns
    return total


def footprint_bytes(model: PreTrainedModel) -> int:
    """Bytes that the weights take, scales and code books of quantized ones included."""
    return sum(tensor.numel() * tensor.element_size() for tensor in held_tensors(model))


@contextmanager
def quiet(on_part: Callable[[float], None]) -> Iterator[None]:
    """No bars, reports or warnings of transformers; its loading bar's fraction goes to `on_part`."""
    from transformers.utils import logging

    def bar(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _Bar(args[0] if args else kwargs.get("iterable"), kwargs.get("total"), on_part)

    # What it warns of while decoding is checked by our own rules; who wants it says so.
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
    previous = logging.set_tqdm_hook(bar)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_tqdm_hook(previous)


class _Bar:
    """As much of a tqdm bar as transformers' loading uses, telling the fraction done."""

    def __init__(self, items: Any, total: int | None, on_part: Callable[[float], None]) -> None:
        self._items = items
        self._total = total or (len(items) if hasattr(items, "__len__") else 0)
        self._done = 0
        self._on_part = on_part

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update(1)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Callable[..., None]:
        # set_description, set_postfix, refresh, ...: nothing to show.
        return lambda *args, **kwargs: None

    def update(self, count: float = 1) -> None:
        self._done += int(count)
        if self._total:
            self._on_part(min(1.0, self._done / self._total))

    def close(self) -> None:
        """Nothing to close."""


def _keep_token_ids_only(
    model: PreTrainedModel, files: ModelFiles, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Replace the model's generation config: nothing of its habits may leak into a strategy."""
    from transformers import GenerationConfig

    ends = list(files.eos_token_ids)
    if not ends and tokenizer.eos_token_id is not None:
        ends = [tokenizer.eos_token_id]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends or None,
        pad_token_id=tokenizer.pad_token_id,
    )


def _told(error: Exception, model: Model, device: str) -> HarnessError:
    """What a failed load means, in one line."""
    import torch

    if isinstance(error, HarnessError):
        return error
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return HarnessError(
            f"model.id: {model.id} does not fit into the memory of {device}; use a smaller quantization "
            "(bnb_nf4), another device, or a smaller model"
        )
    if isinstance(error, ValueError):
        if "does not recognize this architecture" in str(error) or "model type" in line:
            return ConfigError.of(
                "model.id", f"{model.id}: this transformers does not know its architecture: {line}"
            )
        if "Unrecognized configuration class" in str(error):
            return ConfigError.of("model.id", f"{model.id} is no causal language model, so it cannot decode")
        if "attn_implementation" in str(error) or "attention" in line.lower():
            return ConfigError.of(
                "model.attention", f"{model.attention!r} is not for {model.id}; use auto or eager: {line}"
            )
    return HarnessError(f"model.id: {model.id} cannot be loaded: {line}")
