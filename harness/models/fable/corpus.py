"""Batches of token ids for training: aligned rows, one text each, and some long windows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .grammar import Grammar, Written
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
"""The target where there is nothing to predict."""

EMPHASIS = {"copy": 4.0, "list": 2.0, "choice": 1.0, "sure": 0.5}
"""How much a word counts in the first part of training, by how it came about.

That depends on what stands before the word, not on the word, so that the odds to learn stay the same;
copying is learned many times sooner.
"""

Row = list[tuple[int, float]]
"""A row's token ids, each with its weight as a target."""


class Batch(NamedTuple):
    """Rows of one length (rows, length), padded right.

    Attributes:
        inputs: token ids, 0 where padded.
        targets: the next tokens' ids, :data:`IGNORED` where padded.
        weights: how much each target counts, 0 where padded.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def draw_texts(grammar: Grammar, seed: str, count: int) -> list[str]:
    """Draw whole texts, end marker included."""
    rng = random.Random(seed)
    return ["".join(written.unit for written in grammar.write(rng)) for _ in range(count)]


class UnitIds(dict[str, int]):
    """The token id of each unit, asked of the tokenizer once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, unit: str) -> int:
        ids = self._tokenizer.encode(unit, add_special_tokens=False).ids
        if len(ids) != 1:
            raise ValueError(f"the unit {unit!r} is {len(ids)} pieces")
        self[unit] = ids[0]
        return ids[0]


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
        self.tokens = tokens
        self.rng = random.Random(seed)
        self.ids = UnitIds(tokenizer)
        self._rows = self._aligned()
        self._windows = self._long()

    def _draw(self) -> list[Row]:
        """Draw a pool of texts as rows."""
        texts = [self.grammar.write(self.rng) for _ in range(POOL)]
        return [self._row(written) for written in texts]

    def _row(self, written: list[Written]) -> Row:
        ids = [self.ids[BEGIN], *(self.ids[one.unit] for one in written)]
        row = list(zip(ids, [1.0, *(EMPHASIS[one.kind] for one in written)], strict=True))
        bare = written[0].unit in (USER, SYSTEM) and self.rng.random() < BARE_CHATS
        return row[1:] if bare else row

    def _aligned(self) -> Iterator[list[Row]]:
        while True:
            rows = sorted(self._draw(), key=len)
            batches: list[list[Row]] = [[]]
            for row in rows:
                if len(row) * (len(batches[-1]) + 1) > self.tokens:
                    batches.append([])
                batches[-1].append(row)
            self.rng.shuffle(batches)
            yield from batches

    def _long(self) -> Iterator[list[Row]]:
        stream: Row = []
        needed = max(self.tokens // CONTEXT, 1) * CONTEXT
        while True:
            while len(stream) < needed:
                rows = self._draw()
                self.rng.shuffle(rows)
                stream += [token for row in rows for token in row]
            yield [stream[i : i + CONTEXT] for i in range(0, needed, CONTEXT)]
            stream = stream[needed:]

    def batch(self, long: bool) -> Batch:
        """Return the next batch.

        Args:
            long: windows of the whole context, several texts in each, instead of one text a row.
        """
        return pad(next(self._windows if long else self._rows))


def pad(rows: Sequence[Row]) -> Batch:
    """Turn rows into padded inputs, next-token targets and weights."""
    import torch

    shape = (len(rows), max(map(len, rows)) - 1)
    batch = Batch(torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED), torch.zeros(shape))
    for i, row in enumerate(rows):
        ids = torch.tensor([token for token, _ in row])
        batch.inputs[i, : len(row) - 1] = ids[:-1]
        batch.targets[i, : len(row) - 1] = ids[1:]
        batch.weights[i, : len(row) - 1] = torch.tensor([weight for _, weight in row[1:]])
    return batch
