"""Contenders take turns in one process; reported are the median, and the median of the ratios per turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field


@dataclass
class Times:
    """Seconds and tokens of each turn of each contender."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)

    def speed(self, name: str) -> float:
        """Return tokens per second, the median of a contender's turns."""
        return 1 / statistics.median(self._cost(name))

    def ratio(self, name: str, other: str) -> float:
        """Return the time per token of `name` over that of `other`: the median of the ratios per turn.

        Over the turns that both have had.
        """
        pairs = zip(self._cost(name), self._cost(other), strict=False)
        return statistics.median(one / another for one, another in pairs)

    def _cost(self, name: str) -> list[float]:
        return [s / n for s, n in zip(self.seconds[name], self.tokens[name], strict=True)]


def contend(
    contenders: dict[str, Callable[[], int]],
    turns: int,
    warmup: int = 1,
    once: Collection[str] = (),
    seconds: float = float("inf"),
) -> Times:
    """Run contenders in turn, each `turns` times after `warmup`; every other turn in reverse order.

    Args:
        contenders: each generates tokens and returns their number.
        turns: measured turns of each.
        warmup: turns before them that are not measured.
        once: contenders that take minutes; they have the first turn only.
        seconds: no further turn begins after so long; the first one always does.
    """
    began = time.perf_counter()
    times = Times({name: [] for name in contenders}, {name: [] for name in contenders})
    for turn in range(-warmup, turns):
        if turn > 0 and time.perf_counter() - began > seconds:
            break
        order = list(contenders) if turn % 2 == 0 else list(contenders)[::-1]
        for name in order:
            if name in once and turn > 0:
                continue
            started = time.perf_counter()
            tokens = contenders[name]()
            if turn >= 0:
                times.seconds[name].append(time.perf_counter() - started)
                times.tokens[name].append(tokens)
    return times
