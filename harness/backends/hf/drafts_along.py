"""What drafts propose along stored texts: each model reads a text once, and the chains walk along it.

Texts of one strategy walk together, a position at a time: a chain's state depends on the tokens before, and
a step of many texts costs little more than one of a single text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from harness.backends.backend import Request
from harness.backends.drafting import DraftedText
from harness.backends.hf.speculative_loop import AsModel
from harness.backends.hf.strategy_chain import StrategyChain, of_width
from harness.backends.hf.teacher_forcing import TeacherForcing, logits_along
from harness.decoding.acceptance import coupling_acceptance, overlap
from harness.models.load import LoadedModel
from harness.prompts.passages import Passage

TEXTS_TOGETHER = 64
"""Texts whose hidden states are kept at once."""

LogitsAt = Callable[[Sequence[int], int], Tensor]
"""Returns (R, V) logits of texts, given by their numbers, at a position."""


@torch.inference_mode()
def drafts_along(
    loaded: LoadedModel,
    texts: Sequence[tuple[Request, Sequence[int]]],
    drafts: Mapping[str, tuple[LoadedModel, AsModel]],
) -> list[Mapping[str, DraftedText]]:
    """Return what each draft proposes along each text of one strategy, by the draft's name.

    Args:
        loaded: the model that generated the texts.
        texts: requests and the tokens of their outputs.
        drafts: a model each, and what is entered while it reads.
    """
    found: list[Mapping[str, DraftedText]] = []
    for start in range(0, len(texts), TEXTS_TOGETHER):
        found += _along(loaded, texts[start : start + TEXTS_TOGETHER], drafts)
    return found


def _along(
    loaded: LoadedModel,
    texts: Sequence[tuple[Request, Sequence[int]]],
    drafts: Mapping[str, tuple[LoadedModel, AsModel]],
) -> list[Mapping[str, DraftedText]]:
    requests = [request for request, _ in texts]
    outputs = [list(tokens) for _, tokens in texts]
    target = StrategyChain(loaded, requests)
    chains = {name: StrategyChain(loaded, requests, of_draft=True) for name in drafts}
    read = {name: _reading(model, texts, entered) for name, (model, entered) in drafts.items()}
    own = _reading(loaded, texts, nullcontext)
    proposed = {name: [_empty(len(tokens)) for tokens in outputs] for name in drafts}
    for step in range(max(map(len, outputs), default=0)):
        going = [number for number, tokens in enumerate(outputs) if step < len(tokens)]
        so_far = {number: outputs[number][:step] for number in going}
        next_tokens = torch.tensor([outputs[number][step] for number in going], device=loaded.device)
        logits = own(going, step)
        chosen_from = target.warp(logits, so_far)
        p = target.probabilities(chosen_from, logits)
        target.note(chosen_from, going, next_tokens)
        for name, chain in chains.items():
            drafted = of_width(read[name](going, step), logits.shape[-1])
            left = chain.warp(drafted, so_far)
            tokens = chain.choose(left, so_far, step).tolist()
            q = chain.probabilities(left, drafted)
            values = zip(tokens, coupling_acceptance(p, q).tolist(), overlap(p, q).tolist(), strict=True)
            for number, (token, agree, shared) in zip(going, values, strict=True):
                of_text = proposed[name][number]
                of_text.proposals[step], of_text.coupling[step], of_text.overlap[step] = token, agree, shared
            chain.note(left, going, next_tokens)
    return [{name: proposed[name][number] for name in drafts} for number in range(len(texts))]


def _reading(
    loaded: LoadedModel, texts: Sequence[tuple[Request, Sequence[int]]], entered: AsModel
) -> LogitsAt:
    """Read texts; return their logits at a position, which exist for one position at a time if they can."""
    with entered():
        reader = TeacherForcing(loaded)
        if reader.head is None:
            every = [torch.cat(list(_logits(loaded, request, tokens))) for request, tokens in texts]
            return lambda numbers, step: torch.stack([every[number][step] for number in numbers])
        passages = [
            Passage(
                request.prompt.id, request.sample, (*request.prompt.ids, *tokens), len(request.prompt.ids)
            )
            for request, tokens in texts
        ]
        hidden = [states for _, states in reader.hidden_states(passages)]
    head = reader.head
    return lambda numbers, step: head.logits(torch.stack([hidden[number][step] for number in numbers]))


def _logits(loaded: LoadedModel, request: Request, tokens: Sequence[int]) -> Iterator[Tensor]:
    ids = (*request.prompt.ids, *tokens)
    yield from (logits for _, logits in logits_along(loaded, ids, len(request.prompt.ids)))


def _empty(length: int) -> DraftedText:
    return DraftedText(np.zeros(length, np.int64), np.zeros(length), np.zeros(length))
