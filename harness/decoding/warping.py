"""What one strategy draws from: its processors and samplers, applied to rows that are its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.decoding.logits import Logits
from harness.decoding.processors import Processors
from harness.decoding.sampler_chain import Drawable, TruncatedLogits, sampler_chain
from harness.decoding.texts import Texts


def warp(processors: Processors, texts: Texts, logits: Tensor, numbers: Sequence[int]) -> list[Drawable]:
    """Return what (R, V) logits become; `numbers` (R,) are those of the texts, whose states are read."""
    warped = processors(texts, logits)
    if processors.samplers is None:
        return [Drawable(list(range(len(numbers))), warped, None)]
    states = processors.state.parameters(numbers, texts) if processors.state.needed else {}
    chain = sampler_chain((processors.samplers,), str(logits.device))
    return chain(Logits(warped), [0] * len(numbers), states)


def whole(found: Sequence[Drawable], like: Tensor) -> Tensor:
    """Return the results over the vocabulary, (R, V) like these logits, -inf where a token was removed."""
    everything = torch.full_like(like, float("-inf"))
    for rows, left, _ in found:
        if isinstance(left, TruncatedLogits):
            index = torch.tensor(rows, device=like.device)
            everything[index] = everything[index].scatter(1, left.tokens, left.logits)
        else:
            everything[torch.tensor(rows, device=like.device)] = left
    return everything


def note_chosen(
    processors: Processors, found: Sequence[Drawable], numbers: Sequence[int], tokens: Tensor
) -> None:
    """Tell a strategy's state which tokens (R,) were chosen of what `warp` returned."""
    if not processors.state.updates:
        return
    for drawable in found:
        places = torch.arange(len(drawable.rows), device=tokens.device)
        chosen = tokens[torch.tensor(drawable.rows, device=tokens.device)]
        logprobs = drawable.logprobs(places, chosen).tolist()
        processors.state.update([numbers[row] for row in drawable.rows], logprobs)
