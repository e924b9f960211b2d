"""The output head of a model by itself: what turns hidden states into logits, a few positions at a time.

A distribution over the vocabulary is large, and the head's input is small: stored beside one copy of the
head, one hidden state per token gives back the exact distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.backends.hf.forward import read_texts

_TOLERANCE = 1e-6
_PROBE_TOKENS = 12


@dataclass(frozen=True)
class LogitsTransform:
    """What some architectures do to the logits after the head; most do nothing.

    Attributes:
        scale: factor of the logits (`logit_scale` of Cohere, `lm_head_multiplier` of Falcon-H1).
        divide: divisor of the logits (`logits_scaling` of Granite).
        cap: soft cap, cap * tanh(logits / cap) (`final_logit_softcapping` of Gemma 2).
    """

    scale: float | None = None
    divide: float | None = None
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the logits as the model returns them."""
        if self.scale is not None:
            logits = logits * self.scale
        if self.divide is not None:
            logits = logits / self.divide
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


@dataclass(frozen=True)
class OutputHead:
    """Computes logits from hidden states as the model does: `project` is the head, (..., H) to (..., V).

    `weight` (V, H) and `bias` (V,) are those of a linear head, which can be stored; None for any other head.
    """

    project: Callable[[Tensor], Tensor]
    transform: LogitsTransform
    weight: Tensor | None = None
    bias: Tensor | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the (N, V) float32 logits of (N, H) hidden states, on their device."""
        return self.transform(self.project(hidden)).to(hidden.device).float()

    def tensors(self) -> dict[str, Tensor]:
        """Return the weight and, if there is one, the bias of a linear head; empty for any other head."""
        tensors = {"weight": self.weight, "bias": self.bias}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    @property
    def size_bytes(self) -> int:
        """Bytes of the weight and bias."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())


def linear_head(weight: Tensor, bias: Tensor | None, transform: LogitsTransform) -> OutputHead:
    """Return the head of a model that is not loaded, from its stored tensors."""
    return OutputHead(lambda hidden: nn.functional.linear(hidden, weight, bias), transform, weight, bias)


@contextmanager
def capture_inputs(head: nn.Module, *, last_only: bool) -> Iterator[list[Tensor]]:
    """Collect the inputs of a head while its model runs: a list that gets one (R, N, H) tensor per call.

    `last_only` projects the last position alone, where the head's output is not needed.
    """
    inputs: list[Tensor] = []

    def capture(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        inputs.append(arguments[0])
        return (arguments[0][..., -1:, :], *arguments[1:]) if last_only else None

    hook = head.register_forward_pre_hook(capture)
    try:
        yield inputs
    finally:
        hook.remove()


@torch.inference_mode()
def find_head(model: Any, device: str | None = None) -> OutputHead | None:
    """Return the model's head, checked on a few tokens; None if the logits do not follow from its input.

    The head must be a module that is called once per forward pass, and what the model does to its output must
    be known. Then the logits are the same, to the rounding of a product of another shape. `device` takes the
    model's inputs.
    """
    module = model.get_output_embeddings()
    if not isinstance(module, nn.Module):
        return None
    config = model.config.get_text_config()
    ids = torch.arange(3, 3 + _PROBE_TOKENS, device=device or model.device)[None] % config.vocab_size
    with capture_inputs(module, last_only=False) as inputs:
        expected = read_texts(model, ids).float()
    if len(inputs) != 1 or inputs[0].shape[:-1] != ids.shape:
        return None
    hidden = inputs[0].to(ids.device)
    candidates = (OutputHead(module, transform) for transform in _candidate_transforms(config))
    head = next((head for head in candidates if _equal(head.logits(hidden), expected)), None)
    weight, bias = (_whole(getattr(module, name, None)) for name in ("weight", "bias"))
    if head is None or not isinstance(weight, Tensor) or weight.dtype != hidden.dtype:
        return head
    if weight.shape != (expected.shape[-1], hidden.shape[-1]):
        return head
    linear = linear_head(weight, bias, head.transform)
    if not _equal(linear.logits(hidden.to(weight.device)).to(ids.device), expected):
        return head
    if weight is not module.weight:  # gathered from all ranks, to be stored only
        weight = weight.cpu()
    return replace(linear, project=module, weight=weight)


def _whole(tensor: Any) -> Any:
    """Return a weight of which the ranks of a process group have a share each, whole on every rank.

    None of one that is offloaded, and is there only while its module computes.
    """
    if not isinstance(tensor, Tensor) or not hasattr(tensor, "full_tensor"):
        return None if isinstance(tensor, Tensor) and tensor.is_meta else tensor
    return tensor.full_tensor()


def _candidate_transforms(config: Any) -> Iterator[LogitsTransform]:
    def number(name: str) -> float | None:
        value = getattr(config, name, None)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    scale = number("logit_scale") or number("lm_head_multiplier")
    divide, cap = number("logits_scaling"), number("final_logit_softcapping")
    yield LogitsTransform(scale, divide, cap)
    yield LogitsTransform()
    yield LogitsTransform(cap=cap)
    yield LogitsTransform(scale=scale)
    yield LogitsTransform(divide=divide)


def _equal(logits: Tensor, expected: Tensor) -> bool:
    """Return whether logits are equal, to the rounding of their size."""
    if logits.shape != expected.shape:
        return False
    largest = float(expected.abs().max().clamp(min=1.0))
    return float((logits - expected).abs().max()) <= _TOLERANCE * largest
