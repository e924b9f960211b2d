"""Whether a text ends stuck in a loop, the well-known failure of greedy decoding (Holtzman et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

TIMES = 3
"""How often the sequence at the end must occur, back to back."""

LENGTH = 12
"""Words that these repetitions must have at least: `Wow!!!` is no loop, twelve times `!` is one."""


def looped(tokens: Sequence[str]) -> bool:
    """Return whether the text ends in one word sequence, repeated back to back up to its end.

    That is, for some period p the last max(3 p, 12) words are each the same as the word p before. The end
    may be within a repetition, and the last word may be truncated: it counts as the same if the word p
    before begins with it. The definition is our own.

    Args:
        tokens: the words of the text, from `words`.
    """
    if len(tokens) < LENGTH:
        return False
    *body, last = tokens
    for period in range(1, len(tokens) // TIMES + 1):
        if not tokens[-1 - period].startswith(last):
            continue
        same = max(TIMES * period, LENGTH) - period - 1  # pairs to compare beside the last word's
        end = len(body)
        if end >= same + period and all(
            body[i] == body[i - period] for i in range(end - 1, end - 1 - same, -1)
        ):
            return True
    return False
