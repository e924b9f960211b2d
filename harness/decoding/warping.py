"""What one strategy draws from: its processors and samplers, applied to rows that are its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.decoding.logits import Logits
from harness.decoding.processors import Processors
from harness.decoding.sampler_chain import Drawable, StateOfRows, TruncatedLogits, sampler_chain
from harness.decoding.texts import Texts
from harness.decoding.upload import on_device


def warp(
    processors: Processors, texts: Texts, logits: Tensor, numbers: Sequence[int], own: Tensor | None = None
) -> list[Drawable]:
    """Return what (R, V) logits become; `numbers` (R,) are those of the texts, whose states are read.

    `own` are the model's logits where guidance made these.
    """
    warped = processors(texts, logits, own)
    if processors.samplers is None:
        return [Drawable(list(range(len(numbers))), Logits(warped), None)]
    rows = list(range(len(numbers)))
    state = processors.state
    states = [StateOfRows(rows, state.parameters(numbers, texts))] if state.needed else []
    chain = sampler_chain((processors.samplers,), str(logits.device))
    return after_samplers(processors, texts, chain(Logits(warped), [0] * len(rows), states), warped)


def after_samplers(
    processors: Processors, texts: Texts, found: Sequence[Drawable], like: Tensor
) -> list[Drawable]:
    """Return what is made of what samplers left of (R, V) logits."""
    if not processors.after:
        return list(found)
    before = None
    if any(one.before_adaptive is not None for one in found):
        before = _spread(found, [one.before_adaptive for one in found], like)
    scores = processors.after(texts, whole(found, like))
    return [Drawable(list(range(len(like))), Logits(scores), before)]


def whole(found: Sequence[Drawable], like: Tensor) -> Tensor:
    """Return the results over the vocabulary, (R, V) like these logits, -inf where a token was removed."""
    columns = [left.logits if isinstance(left, TruncatedLogits) else left.values for _, left, _ in found]
    return _spread(found, columns, like)


def _spread(found: Sequence[Drawable], values: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Return values of the results' tokens over the vocabulary, -inf where a token was removed."""
    everything = torch.full_like(like, float("-inf"))
    for (rows, left, _), one in zip(found, values, strict=True):
        assert one is not None, "adaptive_p acts on all rows of a strategy"
        index = on_device(rows, like.device)
        if isinstance(left, TruncatedLogits):
            everything[index] = everything[index].scatter(1, left.tokens, one)
        else:
            everything[index] = one
    return everything


def note_chosen(
    processors: Processors, found: Sequence[Drawable], numbers: Sequence[int], tokens: Tensor
) -> None:
    """Tell a strategy's state which tokens (R,) were chosen of what `warp` returned."""
    if not processors.state.updates:
        return
    for drawable in found:
        places = torch.arange(len(drawable.rows), device=tokens.device)
        chosen = tokens[on_device(drawable.rows, tokens.device)]
        logprobs = drawable.logprobs(places, chosen).tolist()
        processors.state.update([numbers[row] for row in drawable.rows], logprobs)
