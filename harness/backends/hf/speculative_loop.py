"""Speculative decoding of one text: a draft proposes a block of tokens, one forward pass verifies it.

With shared noise (`decoding/gumbel.py`) every position has one token that the target chooses, whatever was
proposed: proposals that equal it are accepted, and the first that does not is replaced by it. So the text is
the one that plain decoding generates, and only the number of forward passes depends on the draft.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from harness.analysis.speculative_blocks import Pass, SpeculativeText
from harness.backends.backend import Request
from harness.backends.hf.forward import forward
from harness.backends.hf.strategy_chain import StrategyChain, of_width
from harness.backends.steps.finished import end_of
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.prompt_lookup import look_up
from harness.models.load import LoadedModel

AsModel = Callable[[], AbstractContextManager[Any]]
"""Returns what is entered while a model reads, such as `FirstLayers`."""


class Proposer(Protocol):
    """Proposes tokens for one text."""

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return up to `count` tokens that may follow the text's tokens so far."""


class Reader:
    """A text that a model reads with a cache, from which its last tokens can be removed again."""

    def __init__(self, loaded: LoadedModel, as_model: AsModel = nullcontext) -> None:
        self._model, self.device = loaded.model, loaded.device
        self._as_model = as_model
        self._cache: Any = DynamicCache(config=loaded.model.config)
        self.length = 0

    def read(self, ids: Sequence[int], wanted: int) -> Tensor:
        """Read more tokens; return (wanted, V) float32 logits after the last ones."""
        end = self.length + len(ids)
        new = torch.tensor([list(ids)], device=self.device)
        mask = torch.ones((1, end), dtype=torch.long, device=self.device)
        positions = torch.arange(self.length, end, device=self.device)[None]
        with self._as_model():
            logits, self._cache = forward(
                self._model, new, mask, self._cache, position_ids=positions, logits_to_keep=wanted
            )
        self.length = end
        return logits[0, -wanted:]

    def keep(self, length: int) -> None:
        """Forget what was read after `length` tokens."""
        if length < self.length:
            self._cache.crop(length - self.length)
            self.length = length


class ModelDraft:
    """A model that proposes what it would choose itself, with the text's noise and the strategy's chain."""

    def __init__(self, reader: Reader, chain: StrategyChain, request: Request, vocabulary: int) -> None:
        self._reader, self._chain, self._vocabulary = reader, chain, vocabulary
        self._prompt = request.prompt.ids
        self._tokens: list[int] = []  # of the text, then of its last proposals
        self._steps: dict[int, tuple[Any, Any]] = {}  # what was remembered before a position, and its choices

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return `count` tokens."""
        if not count:
            return []
        agreed = _agreed(self._tokens, tokens)
        noted = len(self._tokens)
        if agreed < noted:
            noted = agreed
            if self._chain.remembers:
                saved, found = self._steps[agreed]
                self._chain.restore(saved)
                if agreed < len(tokens):
                    self._note(found, tokens[agreed])
                    noted += 1
        prompt = len(self._prompt)
        self._reader.keep(prompt + agreed)
        self._steps.clear()
        self._tokens = list(tokens)
        unread = [*self._prompt, *tokens][self._reader.length :]
        missed = range(noted, len(tokens)) if self._chain.remembers else range(0)
        logits = self._read(unread, len(missed) + 1)
        for row, position in enumerate(missed):
            found = self._chain.warp(logits[row : row + 1], {0: tokens[:position]})
            self._note(found, tokens[position])
        proposals: list[int] = []
        while True:
            proposals.append(self._choose(logits[-1:]))
            if len(proposals) == count:
                return proposals
            logits = self._read(proposals[-1:], 1)

    def _read(self, ids: Sequence[int], wanted: int) -> Tensor:
        return of_width(self._reader.read(ids, wanted), self._vocabulary)

    def _choose(self, logits: Tensor) -> int:
        step = len(self._tokens)
        if self._chain.in_blocks:
            token = int(self._chain.choose_block(logits, step))
        else:
            found = self._chain.warp(logits, {0: self._tokens})
            token = int(self._chain.choose(found, {0: self._tokens}, step))
            if self._chain.remembers:
                self._steps[step] = self._chain.saved(), found
                self._note(found, token)
        self._tokens.append(token)
        return token

    def _note(self, found: Any, token: int) -> None:
        self._chain.note(found, [0], torch.tensor([token], device=self._reader.device))


class PromptLookup:
    """Proposes what followed the last tokens of prompt and output before."""

    def __init__(self, request: Request, largest: int) -> None:
        self._prompt, self._largest = request.prompt.ids, largest

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return up to `count` tokens; none where the last token is new."""
        return look_up([*self._prompt, *tokens], self._largest, count) if count else []


class Target:
    """The model whose text it is: chooses tokens, several in one forward pass where they were proposed."""

    def __init__(self, reader: Reader, chain: StrategyChain, request: Request) -> None:
        self._reader, self._chain, self._prompt = reader, chain, request.prompt.ids

    def verify(self, tokens: Sequence[int], proposals: Sequence[int]) -> list[int]:
        """Return the tokens that follow: the proposals that it chooses too, and one more."""
        unread = [*self._prompt, *tokens, *proposals][self._reader.length :]
        logits = self._reader.read(unread, len(proposals) + 1)
        if self._chain.in_blocks:
            chosen = self._chain.choose_block(logits, len(tokens)).tolist()
            chosen = chosen[: _agreed(chosen, proposals) + 1]
        else:
            chosen = []
            while len(chosen) <= len(proposals) and chosen == list(proposals[: len(chosen)]):
                place = len(chosen)
                so_far = {0: [*tokens, *chosen]}
                found = self._chain.warp(logits[place : place + 1], so_far)
                token = self._chain.choose(found, so_far, len(tokens) + place)
                self._chain.note(found, [0], token)
                chosen.append(int(token))
        self._reader.keep(len(self._prompt) + len(tokens) + len(chosen) - 1)
        return chosen


@torch.inference_mode()
def speculate(
    target: Target, draft: Proposer | None, request: Request, block: int, detokenizer: Detokenizer
) -> SpeculativeText:
    """Generate one text; `draft` proposes up to `block` tokens a forward pass, without it there are none.

    The last token of the budget is never proposed: the target chooses one more than it accepts.
    """
    strategy, prompt = request.strategy, request.prompt.ids
    tokens: list[int] = []
    passes: list[Pass] = []
    drafting, started = 0.0, perf_counter()
    while True:
        proposals: list[int] = []
        if draft is not None:
            before = perf_counter()
            proposals = draft.propose(tokens, min(block, strategy.max_new_tokens - len(tokens) - 1))
            drafting += perf_counter() - before
        accepted, ended = 0, False
        for place, token in enumerate(target.verify(tokens, proposals)):
            tokens.append(token)
            accepted += place < len(proposals) and token == proposals[place]
            if end_of(strategy, prompt, tokens, detokenizer) is not None:
                ended = True
                break
        passes.append(Pass(len(proposals), accepted))
        if ended:
            return SpeculativeText(tuple(tokens), tuple(passes), perf_counter() - started, drafting)


def _agreed(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens are equal."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
