"""The weights of a GGUF file, dequantized by transformers; and what transformers leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.models.gguf_header import GgufHeader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor by which llama.cpp divides the frequencies of positions, for Llama 3.1 and later."""


def gguf_arguments(header: GgufHeader) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for a GGUF file, beside its folder."""
    from transformers.utils.quantization_config import GgufConfig

    return {"gguf_file": str(header.path), "quantization_config": GgufConfig(dequantize=True)}


@contextmanager
def read_once(on_fraction: Callable[[float], None]) -> Iterator[None]:
    """Let transformers parse a file's metadata once, and tell its progress, while the block runs.

    It would parse them for the config and again for the weights, and make the table of the tensors' names
    anew for each module: ten seconds for a small model.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as legacy

    def bar(items: Any, **keys: Any) -> Iterator[Any]:
        for index, item in enumerate(items):
            on_fraction(index / len(items))
            yield item

    replaced: tuple[tuple[Any, str, Any], ...] = (
        (gguf, "GGUFReader", lru_cache(gguf.GGUFReader)),
        (gguf, "get_tensor_name_map", lru_cache(gguf.get_tensor_name_map)),
        (legacy, "tqdm", bar),
    )
    before = [getattr(module, name) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(replaced, before, strict=True):
            setattr(module, name, value)


def apply_rope_factors(model: PreTrainedModel, header: GgufHeader) -> None:
    """Divide the frequencies of positions by the factors of the file, which transformers does not read.

    Raises:
        HarnessError: the model has no such frequencies.
    """
    if not any(tensor.name == ROPE_FACTORS for tensor in header.tensors):
        return
    import gguf
    import torch

    data = next(one.data for one in gguf.GGUFReader(header.path).tensors if one.name == ROPE_FACTORS)
    factors = torch.tensor(data, dtype=torch.float32)
    found = [module for module in model.modules() if getattr(module, "inv_freq", None) is not None]
    if not found or any(module.inv_freq.shape != factors.shape for module in found):
        raise HarnessError(
            f"model.id: {header.path.name} has {ROPE_FACTORS} for other positions than the model's"
        )
    for module in found:
        for name in ("inv_freq", "original_inv_freq"):
            frequencies = getattr(module, name, None)
            if isinstance(frequencies, torch.Tensor):
                setattr(module, name, frequencies / factors.to(frequencies.device))
