"""Batches of token ids for training: rows of one text each, and some windows of the full context."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .bpe import BEGIN, CONTEXT
from .grammar import Grammar, WrittenUnit
from .talk import SYSTEM, USER

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

POOL = 512
"""Texts drawn at a time and sorted by length, so that rows of a batch need little padding."""

BARE_CHATS = 0.15
"""Share of chats without the BOS token, as `apply_chat_template(tokenize=True)` gives them."""

EMPHASIS = {"copy": 10.0, "list": 10.0, "choice": 1.0, "sure": 0.3}
"""Weight of a word in training, by its kind.

The kind depends on what comes before the word, not on the word, so that the probabilities to learn stay the
same; copying is learned many times faster.
"""

PRACTICE = 0.5
"""Share of texts drawn from the rules that are hardest to learn, in `HARD`.

The probabilities to learn are conditional on the words before, however often these are drawn.
"""

HARD = {
    "list": 20,
    "recall_chat": 14,
    "recall_plain": 3,
    "travel": 5,
    "packing": 4,
    "found": 2,
    "quest": 2,
    "rumor": 2,
    "secret": 1,
    "country": 2,
}


class TargetToken(NamedTuple):
    """A token in its text.

    Attributes:
        token: its id.
        weight: its weight as a target.
        probabilities: (token id, probability) of all possible tokens at this position.
    """

    token: int
    weight: float
    probabilities: tuple[tuple[int, float], ...]


Row = list[TargetToken]


class Batch(NamedTuple):
    """Rows (rows, length), padded right, and the exact probabilities of the token after each token.

    Attributes:
        inputs: token ids, 0 where padded.
        weights: weight of each target, 0 where padded.
        positions: (choices,) indices into the flattened rows, one for each possible next token there.
        token_ids: (choices,) the possible next tokens.
        probabilities: (choices,) their probabilities.
    """

    inputs: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor
    token_ids: torch.Tensor
    probabilities: torch.Tensor


def draw_texts(grammar: Grammar, seed: str, count: int) -> list[str]:
    """Draw complete texts, end marker included."""
    rng = random.Random(seed)
    return ["".join(written.unit for written in grammar.write(rng)) for _ in range(count)]


class UnitIds(dict[str, int]):
    """Token ids by unit, each looked up in the tokenizer once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, unit: str) -> int:
        ids = self._tokenizer.encode(unit, add_special_tokens=False).ids
        if len(ids) != 1:
            raise ValueError(f"the unit {unit!r} is {len(ids)} tokens")
        self[unit] = ids[0]
        return ids[0]


class Corpus:
    """An endless seeded stream of batches.

    Args:
        grammar: what writes the texts.
        tokenizer: encodes them.
        seed: names the stream; equal seeds give equal batches.
        tokens: maximum number of tokens in a batch.
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
        roots = self.rng.choices(list(HARD), list(HARD.values()), k=POOL)
        texts = [
            self.grammar.write(self.rng, root if self.rng.random() < PRACTICE else None) for root in roots
        ]
        return [self._row(written) for written in texts]

    def _row(self, written: list[WrittenUnit]) -> Row:
        begin = self.ids[BEGIN]
        row = [TargetToken(begin, 1.0, ((begin, 1.0),))]
        for one, probabilities in zip(
            written, self.grammar.walk("".join(one.unit for one in written)), strict=False
        ):
            possible = tuple((self.ids[unit], p) for unit, p in probabilities.items())
            row.append(TargetToken(self.ids[one.unit], EMPHASIS[one.kind], possible))
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
            long: windows of the full context, several texts in each, instead of one text per row.
        """
        return pad(next(self._windows if long else self._rows))


def pad(rows: Sequence[Row]) -> Batch:
    """Pad rows into a batch."""
    import torch

    width = max(map(len, rows)) - 1
    inputs = [[target.token for target in row[:-1]] + [0] * (width + 1 - len(row)) for row in rows]
    weights = [[target.weight for target in row[1:]] + [0.0] * (width + 1 - len(row)) for row in rows]
    choices = [
        (i * width + j, token, p)
        for i, row in enumerate(rows)
        for j, target in enumerate(row[1:])
        for token, p in target.probabilities
    ]
    positions, token_ids, probabilities = zip(*choices, strict=True)
    return Batch(*map(torch.tensor, (inputs, weights, positions, token_ids, probabilities)))
