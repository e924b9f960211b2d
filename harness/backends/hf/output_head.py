"""The output head by itself: what a model makes logits of, and how, a few positions at a time.

A distribution over the vocabulary is large, and what it is made of is small: the head's input, one hidden
state a token. Kept beside one copy of the head, it tells the whole distribution again whenever it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_TOLERANCE = 1e-6
_PROBE = 12


@dataclass(frozen=True)
class Processing:
    """What some architectures do to the logits behind the head; nothing, as a rule.

    Attributes:
        scale: they are multiplied by it (`logit_scale` of Cohere, `lm_head_multiplier` of Falcon-H1).
        divide: they are divided by it (`logits_scaling` of Granite).
        cap: cap * tanh(logits / cap) is taken of them (`final_logit_softcapping` of Gemma 2).
    """

    scale: float | None = None
    divide: float | None = None
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """The logits as the model gives them."""
        if self.scale is not None:
            logits = logits * self.scale
        if self.divide is not None:
            logits = logits / self.divide
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


@dataclass(frozen=True)
class Head:
    """Makes logits of hidden states as the model does.

    Attributes:
        project: the head itself: (..., H) to (..., V).
        processing: what the model does behind it.
        weight, bias: (V, H), (V,) where the head is a plain product and can be kept; None where it is not.
    """

    project: Callable[[Tensor], Tensor]
    processing: Processing
    weight: Tensor | None = None
    bias: Tensor | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, V) float32 logits of (N, H) hidden states."""
        return self.processing(self.project(hidden)).float()


def plain_head(weight: Tensor, bias: Tensor | None, processing: Processing) -> Head:
    """The head of a model that is not loaded, from what was kept of it."""
    return Head(lambda hidden: nn.functional.linear(hidden, weight, bias), processing, weight, bias)


class Captured:
    """What entered a head while its model was run.

    Attributes:
        inputs: one (R, N, H) tensor a call of the head.
    """

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []


@contextmanager
def captured(head: nn.Module, *, last_only: bool) -> Iterator[Captured]:
    """Note what enters the head.

    Args:
        head: the model's output embeddings.
        last_only: let it work on the last position alone, since its output is not asked for.
    """
    seen = Captured()

    def note(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        seen.inputs.append(arguments[0])
        return (arguments[0][..., -1:, :], *arguments[1:]) if last_only else None

    handle = head.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


@torch.inference_mode()
def find_head(model: Any) -> Head | None:
    """The model's head, tried on a few tokens; None when its logits cannot be made of what enters it.

    The head must be a module of its own that is called once a pass, and what the model does to the logits
    behind it must be known: then they are the same, to the rounding of a product of another shape.
    """
    module = model.get_output_embeddings()
    if not isinstance(module, nn.Module):
        return None
    config = model.config.get_text_config()
    ids = torch.arange(3, 3 + _PROBE, device=model.device)[None] % config.vocab_size
    with captured(module, last_only=False) as seen:
        true = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    if len(seen.inputs) != 1 or seen.inputs[0].shape[:-1] != ids.shape:
        return None
    hidden = seen.inputs[0]
    for processing in _candidates(model, config):
        head = Head(module, processing)
        if _same(head.logits(hidden), true):
            break
    else:
        return None
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[-1] == hidden.shape[-1]:
        if not weight.is_floating_point() or weight.dtype != hidden.dtype:
            return head
        if _same(plain_head(weight, bias, processing).logits(hidden), true):
            return Head(module, processing, weight, bias)
    return head


def _candidates(model: Any, config: Any) -> Iterator[Processing]:
    def number(name: str) -> float | None:
        found = getattr(config, name, None)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    scale = number("logit_scale") or number("lm_head_multiplier")
    divide, cap = number("logits_scaling"), number("final_logit_softcapping")
    yield Processing(scale, divide, cap)
    yield Processing()
    yield Processing(cap=cap)
    yield Processing(scale=scale)
    yield Processing(divide=divide)


def _same(logits: Tensor, true: Tensor) -> bool:
    """Whether logits are equal, to the rounding of their size."""
    if logits.shape != true.shape:
        return False
    largest = float(true.abs().max().clamp(min=1.0))
    return float((logits - true).abs().max()) <= _TOLERANCE * largest
