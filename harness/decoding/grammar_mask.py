"""The mask of a structured output: tokens after which the text can still become what it must be.

The matcher of a text is a function of the strategy and of the text's generated tokens, and is found by them:
rows may move, split and vanish. Masking, not rejection: each step draws from the strategy's distribution
given that the token is legal. The bytes of tokens are compared; where the grammar leaves one continuation,
llguidance allows its canonical tokens only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config.structure import Structure, structure_of
from harness.decoding.texts import Texts
from harness.decoding.vocabulary import Vocabulary
from harness.errors import HarnessError, first_line

_NEG_INF = float("-inf")


def grammar_mask(
    effective: Mapping[str, Any], vocabulary: Vocabulary | None, eos_ids: Sequence[int]
) -> GrammarMask | None:
    """Return the mask of a strategy; None where its outputs may be anything.

    Args:
        effective: the fields that act.
        vocabulary: of the model's tokenizer.
        eos_ids: what ends a sample; empty for the tokenizer's own.
    """
    structure = structure_of(effective)
    if structure is None:
        return None
    assert vocabulary is not None, "a grammar reads the bytes of tokens"
    return GrammarMask(structure, vocabulary, eos_ids)


class GrammarMask:
    """Removes the tokens that a structure does not allow, for the texts of one strategy."""

    def __init__(self, structure: Structure, vocabulary: Vocabulary, eos_ids: Sequence[int]) -> None:
        self._structure, self._vocabulary = structure, vocabulary
        self._eos_ids = tuple(eos_ids) or vocabulary.eos_ids
        self._first: Any = None
        self._known: dict[tuple[int, ...], tuple[Any, np.ndarray]] = {}  # matchers and masks of texts

    def __call__(self, texts: Texts, logits: Tensor, raw: Tensor) -> Tensor:
        """Return (R, V) logits, -inf where a token is not allowed.

        Where a strategy's other rules leave none of the allowed ones, all of them are left with their `raw`
        logits: a text is what it must be first.
        """
        forbidden = ~self.allowed(texts, logits.shape[1]).to(logits.device)
        masked = logits.masked_fill(forbidden, _NEG_INF)
        empty = masked.amax(-1, keepdim=True) == _NEG_INF
        if bool(empty.any()):
            masked = torch.where(empty, raw.masked_fill(forbidden, _NEG_INF), masked)
        return masked

    def allowed(self, texts: Texts, size: int) -> Tensor:
        """Return (R, V) bool on the CPU: the tokens that may follow each text."""
        prefixes = [tuple(ids) for ids in texts.ids[:, texts.width :].tolist()]
        known = {prefix: self._of(prefix, size) for prefix in dict.fromkeys(prefixes)}
        self._known = known  # texts that are no more are forgotten
        return torch.from_numpy(np.stack([known[prefix][1] for prefix in prefixes]))

    def _of(self, prefix: tuple[int, ...], size: int) -> tuple[Any, np.ndarray]:
        """Return the matcher after these tokens, stopped after EOS and what is not allowed; and its mask."""
        if prefix in self._known:
            return self._known[prefix]
        if prefix and prefix[:-1] in self._known:
            rest, matcher = prefix[-1:], self._known[prefix[:-1]][0].deep_copy()
        else:
            rest, matcher = prefix, self._start(size).deep_copy()
        for token in rest:
            if matcher.is_stopped() or not matcher.consume_token(token):
                break
        return matcher, self._mask(matcher, size)

    def _start(self, size: int) -> Any:
        if self._first is None:
            from llguidance import LLMatcher

            tokenizer = self._vocabulary.for_matching(size, self._eos_ids)
            self._first = LLMatcher(tokenizer, self._structure.grammar(), log_level=0)
            if self._first.is_error():
                reason = first_line(ValueError(self._first.get_error()))
                raise HarnessError(f"decoding.{self._structure.name}: {reason}; correct it")
        return self._first

    def _mask(self, matcher: Any, size: int) -> np.ndarray:
        """Return (V,) bool; EOS alone once the text is complete, or where nothing is left."""
        if not matcher.is_stopped():
            from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

            bits = allocate_token_bitmask(1, max(size, self._vocabulary.size))
            fill_next_token_bitmask(matcher, bits, 0)
            mask = np.unpackbits(bits.view(np.uint8), count=size, bitorder="little").astype(bool)
            if mask.any():
                return mask
        mask = np.zeros(size, bool)
        mask[[token for token in self._eos_ids if token < size]] = True
        return mask
