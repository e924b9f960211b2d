"""Contenders take turns in one process; what is told is the median, and the median of the ratios a turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field


@dataclass
class Times:
    """What each turn of each contender took and made."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)

    def speed(self, name: str) -> float:
        """Tokens a second, the median of a contender's turns."""
        return 1 / statistics.median(self._cost(name))

    def ratio(self, name: str, other: str) -> float:
        """How much longer `name` takes for a token than `other`: the median of the ratios turn by turn.

        Of one that had fewer turns, over the turns that both had.
        """
        pairs = zip(self._cost(name), self._cost(other), strict=False)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def _cost(self, name: str) -> list[float]:
        return [s / n for s, n in zip(self.seconds[name], self.tokens[name], strict=True)]


def contend(
    contenders: dict[str, Callable[[], int]], turns: int, warmup: int = 1, once: Collection[str] = ()
) -> Times:
    """Let contenders run in turn, each `turns` times after `warmup`; every other turn backwards.

    Args:
        contenders: each makes tokens and returns how many.
        turns: of each that count.
        warmup: turns before them that do not.
        once: contenders that take minutes: they have the first turn only.
    """
    times = Times({name: [] for name in contenders}, {name: [] for name in contenders})
    for turn in range(-warmup, turns):
        order = list(contenders) if turn % 2 == 0 else list(contenders)[::-1]
        for name in order:
            if name in once and turn > 0:
                continue
            began = time.perf_counter()
            made = contenders[name]()
            if turn >= 0:
                times.seconds[name].append(time.perf_counter() - began)
                times.tokens[name].append(made)
    return times
