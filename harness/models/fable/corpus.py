"""Batches of token ids for training: aligned rows, one text each, and some long windows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .grammar import Grammar
from .talk import SYSTEM, USER
from .tokenizer import BEGIN, CONTEXT

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

POOL = 512
"""Texts drawn at a time and sorted by length, so that rows of a batch need little padding."""

BARE_CHATS = 0.15
"""Share of chats without the beginning token, as ``apply_chat_template(tokenize=True)`` makes them."""

IGNORED = -100


def draw_texts(grammar: Grammar, seed: str, count: int) -> list[str]:
    """Draw whole texts, end marker included."""
    rng = random.Random(seed)
    return ["".join(written.unit for written in grammar.write(rng)) for _ in range(count)]


class Corpus:
    """An endless seeded stream of batches.

    Args:
        grammar: what writes the texts.
        tokenizer: encodes them.
        seed: names the stream; equal seeds give equal batches.
        tokens: how many tokens a batch holds at most.
    """

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, seed: str, tokens: int) -> None:
        self.grammar = grammar
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.rng = random.Random(seed)
        self.begin = tokenizer.token_to_id(BEGIN)
        self._rows = self._aligned()
        self._windows = self._long()

    def _draw(self) -> list[list[int]]:
        """Draw a pool of texts as token ids."""
        texts = ["".join(w.unit for w in self.grammar.write(self.rng)) for _ in range(POOL)]
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        chat = (USER, SYSTEM)
        return [
            ids[1:] if text.startswith(chat) and self.rng.random() < BARE_CHATS else ids
            for text, ids in zip(texts, rows, strict=True)
        ]

    def _aligned(self) -> Iterator[list[list[int]]]:
        while True:
            rows = sorted(self._draw(), key=len)
            batches: list[list[list[int]]] = [[]]
            for ids in rows:
                if len(ids) * (len(batches[-1]) + 1) > self.tokens:
                    batches.append([])
                batches[-1].append(ids)
            self.rng.shuffle(batches)
            yield from batches

    def _long(self) -> Iterator[list[list[int]]]:
        stream: list[int] = []
        needed = self.tokens // CONTEXT * CONTEXT
        while True:
            while len(stream) < needed:
                rows = self._draw()
                self.rng.shuffle(rows)
                stream += [token for ids in rows for token in ids]
            yield [stream[i : i + CONTEXT] for i in range(0, needed, CONTEXT)]
            stream = stream[needed:]

    def batch(self, long: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next batch.

        Args:
            long: windows of the whole context, several texts in each, instead of one text a row.

        Returns:
            Token ids (rows, length), padded right with 0, and the ids to predict (rows, length),
            shifted by one and :data:`IGNORED` where there is nothing to predict.
        """
        return pad(next(self._windows if long else self._rows))


def pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn rows of ids into padded inputs and next-token targets."""
    import torch

    width = max(map(len, rows)) - 1
    inputs = torch.zeros((len(rows), width), dtype=torch.long)
    targets = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    for i, ids in enumerate(rows):
        inputs[i, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[i, : len(ids) - 1] = torch.tensor(ids[1:])
    return inputs, targets
