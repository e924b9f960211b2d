"""Words that an output must hold, and what a text lacks of them (Post and Vilar 2018, arXiv:1804.06609).

A word is met where the generated tokens hold one of its alternatives in one piece. Everything is a function
of the generated tokens alone: the prompt does not count, and no text has a state that another could share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Alternatives = tuple[tuple[int, ...], ...]
"""The token sequences of one word; any of them is enough."""


@dataclass(frozen=True)
class Progress:
    """How far a text is.

    Attributes:
        missing: indices of the words that it lacks.
        needed: tokens that it needs at least to hold all, unless words overlap: the shortest alternative of
            each missing word, less what it has of the one that it is in.
        advancing: tokens that begin or continue an alternative of a missing word, each once.
    """

    missing: tuple[int, ...]
    needed: int
    advancing: tuple[int, ...]


class ForcedWords:
    """The words of one strategy."""

    def __init__(self, values: Sequence[Sequence[int] | Sequence[Sequence[int]]]) -> None:
        """`values` are as in `force_words_ids`: of each word its ids, or a list of alternatives."""
        self._words = words_of(values)
        self.start = self._progress((), range(len(self._words)))

    def after(self, before: Progress, tokens: Sequence[int]) -> Progress:
        """Return the progress of `tokens`; `before` is that of all of them but the last."""
        if not before.missing:
            return before
        ended = (
            word
            for word in before.missing
            if any(tuple(tokens[-len(one) :]) == one for one in self._words[word])
        )
        met = set(ended)
        return self._progress(tokens, [word for word in before.missing if word not in met])

    def _progress(self, tokens: Sequence[int], missing: Sequence[int]) -> Progress:
        advancing: dict[int, None] = {}
        saved = 0
        for word in missing:
            shortest = min(map(len, self._words[word]))
            for one in self._words[word]:
                has = _overlap(tokens, one)
                advancing[one[has]] = None
                saved = max(saved, shortest - (len(one) - has))
        needed = sum(min(map(len, self._words[word])) for word in missing) - saved
        return Progress(tuple(missing), needed, tuple(advancing))


def words_of(values: Sequence[Sequence[int] | Sequence[Sequence[int]]]) -> tuple[Alternatives, ...]:
    """Return the alternatives of each word of a `force_words_ids`."""
    found = []
    for value in values:
        several = [[one] if isinstance(one, int) else one for one in value]
        alone = [tuple(one for ids in several for one in ids)]
        found.append(tuple(alone if isinstance(value[0], int) else map(tuple, several)))
    return tuple(found)


def tokens_needed(values: Sequence[Sequence[int] | Sequence[Sequence[int]]]) -> int:
    """Return how many tokens the words of a `force_words_ids` need, one after the other."""
    return sum(min(map(len, word)) for word in words_of(values))


def in_turn_by_bank(banks: Sequence[int], size: int) -> list[int]:
    """Return which candidates go on, at most `size`: the best of each bank, then the second of each, and on.

    Args:
        banks: of each candidate, from the best score to the worst, the tokens that it still needs; those
            that need the fewest come first.
        size: how many may go on.
    """
    seen: dict[int, int] = {}
    keys = []
    for index, bank in enumerate(banks):
        rank = seen[bank] = seen.get(bank, -1) + 1
        keys.append((rank, bank, index))
    return [index for _, _, index in sorted(keys)[:size]]


def _overlap(tokens: Sequence[int], word: Sequence[int]) -> int:
    """Return how many of the first tokens of `word`, not all of it, a text ends with."""
    for count in range(min(len(word) - 1, len(tokens)), 0, -1):
        if tuple(tokens[-count:]) == tuple(word[:count]):
            return count
    return 0
