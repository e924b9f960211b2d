"""Guidance: a strategy's logits made of two distributions, the model's own and a second one.

What is made comes first, before every penalty and sampler. Each kind is a pure function of (M, V)
log-probabilities; a token without probability in either distribution has none afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.config.effective import NEUTRAL, acts
from harness.config.guided_fields import amateur_id

_NEG_INF = float("-inf")
_SLACK = 1e-6
"""A token at a threshold is kept, whatever float32 makes of its probability."""


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (Sanchez et al. 2023): log p_u + scale (log p_c - log p_u).

    p_u is of the same text after a second prompt: the negative prompt; or, for context-aware decoding (Shi et
    al. 2023) with scale = 1 + alpha, the prompt without its context.
    """

    scale: float

    def __call__(self, log_p: Tensor, second: Tensor) -> Tensor:
        """Return (M, V) scores; `second` (M, V) are the log-probabilities p_u."""
        return _without_probability(second + self.scale * (log_p - second), log_p, second)


@dataclass(frozen=True)
class ContrastiveDecoding:
    """Contrastive decoding: what a model prefers and a smaller one, the amateur, does not.

    Only tokens with p >= alpha max p are kept. Without `beta` their scores are log p - log p_a (Li et al.
    2023), with it (1 + beta) log p - beta log p_a (O'Brien and Lewis 2023). `amateur` is its name,
    `temperature` divides the amateur's logits.
    """

    amateur: str
    alpha: float
    beta: float | None
    temperature: float

    def __call__(self, log_p: Tensor, second: Tensor) -> Tensor:
        """Return (M, V) scores; `second` (M, W) are the amateur's logits, whose padding may be another.

        A token that the amateur lacks has no score.
        """
        log_a = (second[:, : log_p.shape[1]] / self.temperature).log_softmax(-1)
        if missing := log_p.shape[1] - log_a.shape[1]:
            log_a = torch.nn.functional.pad(log_a, (0, missing), value=_NEG_INF)
        scores = log_p - log_a if self.beta is None else (1 + self.beta) * log_p - self.beta * log_a
        implausible = log_p < log_p.amax(-1, keepdim=True) + math.log(self.alpha) - _SLACK
        return _without_probability(scores, log_p, log_a).masked_fill_(implausible, _NEG_INF)


@dataclass(frozen=True)
class Dola:
    """Decoding by contrasting layers (Chuang et al. 2024): log p - log q of the most different layer.

    q_l is what the output head makes of the hidden state of layer l. The layer is that with the largest
    Jensen-Shannon divergence from p, chosen for each row by itself. Only tokens with p >= 0.1 max p are kept.
    """

    layers: str | tuple[int, ...]
    relative_top: float = 0.1

    def candidates(self, count: int, tied: bool) -> tuple[int, ...]:
        """Return the layers in question, 0 for the embeddings.

        `low` is the even layers of the lower half, `high` those of the upper half; of more than 40 layers the
        first and the last 20. Tied embeddings predict their own token, so `low` begins with layer 2 then.

        Args:
            count: layers of the model.
            tied: whether its output head is its embedding.
        """
        if not isinstance(self.layers, str):
            return self.layers
        if self.layers == "high":
            return tuple(range(count // 2 if count <= 40 else count - 20, count, 2))
        start = min(2, count // 2) if tied else 0
        return tuple(range(start, count // 2 if count <= 40 else 20, 2)) or (start,)

    def __call__(self, log_p: Tensor, second: Tensor) -> Tensor:
        """Return (M, V) scores; `second` (M, L, V) are the log-probabilities of the layers."""
        layer = divergence(log_p[:, None], second).argmax(-1)
        log_q = second[torch.arange(len(layer), device=layer.device), layer]
        implausible = log_p < log_p.amax(-1, keepdim=True) + math.log(self.relative_top) - _SLACK
        return _without_probability(log_p - log_q, log_p, log_q).masked_fill_(implausible, _NEG_INF)


Guidance = ClassifierFree | ContrastiveDecoding | Dola


def guidance_of(effective: Mapping[str, Any]) -> Guidance | None:
    """Return what guides a strategy; None where nothing does."""

    def value(name: str) -> Any:
        return effective.get(name, NEUTRAL[name])

    if acts(effective, "guidance_scale"):
        return ClassifierFree(value("guidance_scale"))
    if acts(effective, "context_alpha"):
        return ClassifierFree(1 + value("context_alpha"))
    if (amateur := amateur_id(effective)) is not None:
        return ContrastiveDecoding(
            amateur=amateur,
            alpha=value("contrastive_alpha"),
            beta=value("contrastive_beta"),
            temperature=value("amateur_temperature"),
        )
    if acts(effective, "dola_layers"):
        layers = value("dola_layers")
        return Dola(layers if isinstance(layers, str) else tuple(layers))
    return None


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return (...) the Jensen-Shannon divergence in nats of (..., V) log-probabilities (Lin 1991)."""
    middle = torch.logaddexp(log_p, log_q) - math.log(2)
    return (_relative_entropy(log_p, middle) + _relative_entropy(log_q, middle)) / 2


def _relative_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    terms = log_p.exp() * (log_p - log_q)
    return terms.masked_fill(log_p == _NEG_INF, 0.0).sum(-1)


def _without_probability(scores: Tensor, *log_ps: Tensor) -> Tensor:
    """Return scores, -inf where one of the distributions has no probability."""
    for log_p in log_ps:
        scores = scores.masked_fill_(log_p == _NEG_INF, _NEG_INF)
    return scores


def all_layers(guided: Iterable[Guidance | None], count: int, tied: bool) -> tuple[int, ...]:
    """Return the layers that strategies ask for, in order, of a model with `count` layers."""
    layers = (one.candidates(count, tied) for one in guided if isinstance(one, Dola))
    return tuple(sorted({layer for some in layers for layer in some}))
