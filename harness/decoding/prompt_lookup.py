"""Prompt lookup: what followed the text's last tokens when they occurred before (Saxena 2023)."""

from __future__ import annotations

from collections.abc import Sequence


def look_up(ids: Sequence[int], largest: int, count: int) -> list[int]:
    """Return up to `count` tokens that followed an earlier occurrence of the last ones; none without any.

    As in transformers, the longest n-gram of at most `largest` tokens that occurred before counts, and its
    first occurrence.
    """
    known = list(ids)
    for size in range(min(largest, len(known) - 1), 0, -1):
        last, start = known[-size:], -1
        while True:
            try:
                start = known.index(last[0], start + 1, len(known) - size)
            except ValueError:
                break
            if known[start : start + size] == last:
                return known[start + size : start + size + count]
    return []
